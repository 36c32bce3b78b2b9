import type { Stats } from 'node:fs'
import { open, readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { CodedError } from '../../core/errors.ts'
import type { Bytes } from '../../core/streams.ts'
import type { Source } from './source.ts'

const readBytes = 1024 * 1024

/**
 * A local file or block device, for the command line only: a server never opens a path that a client names.
 * Throws SOURCE_NOT_FOUND, SOURCE_DENIED or SOURCE_INVALID.
 */
export async function openFileSource(
  path: string,
  { signal }: { readonly signal: AbortSignal },
): Promise<Source> {
  const file = await open(path, 'r').catch((error: unknown) => {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    const why = code === 'ENOENT' ? 'it does not exist' : String(code)
    throw new CodedError(
      code === 'ENOENT' ? 'SOURCE_NOT_FOUND' : 'SOURCE_DENIED',
      `cannot open ${path}: ${why}`,
      { cause: error },
    )
  })
  const size = await sizeOf(await file.stat(), path).catch(async (error: unknown) => {
    await file.close()
    throw error
  })
  async function* body(): AsyncGenerator<Uint8Array, void> {
    const buffers = [Buffer.allocUnsafeSlow(readBytes), Buffer.allocUnsafeSlow(readBytes)]
    const read = async (turn: number): Promise<Uint8Array> => {
      const buffer = buffers[turn % 2] ?? Buffer.alloc(readBytes)
      const { bytesRead } = await file.read(buffer, 0, readBytes, turn * readBytes)
      return buffer.subarray(0, bytesRead)
    }
    let position = 0
    for (let turn = 0, ahead = read(0); position < size; turn++) {
      const chunk = await ahead
      signal.throwIfAborted()
      position += chunk.length
      if (chunk.length < readBytes && position < size) break
      if (position < size) ahead = read(turn + 1)
      // A failed read ahead is reported when its turn comes.
      ahead.catch(() => {})
      yield chunk.subarray(0, chunk.length - Math.max(0, position - size))
    }
    if (position < size) {
      throw new CodedError('SOURCE_CHANGED', `${path} became shorter while it was read`)
    }
  }
  return {
    label: basename(path),
    length: size,
    pin: undefined,
    offset: 0,
    body: body(),
    [Symbol.asyncDispose]: () => file.close(),
  }
}

/** Standard input, or any stream without a known length. */
export function openStreamSource(label: string, body: Bytes): Source {
  const length = undefined
  return { label, length, pin: undefined, offset: 0, body, [Symbol.asyncDispose]: async () => {} }
}

async function sizeOf(stat: Stats, path: string): Promise<number> {
  if (stat.isFile()) return stat.size
  if (stat.isBlockDevice()) {
    // As Linux packs the two numbers of a device; sizes are in sectors of 512 bytes, always.
    const major = Math.floor(stat.rdev / 256) % 4096
    const minor = (stat.rdev % 256) + Math.floor(stat.rdev / 2 ** 20) * 256
    const sectors = await readFile(`/sys/dev/block/${major}:${minor}/size`, 'utf8')
    return Number(sectors) * 512
  }
  throw new CodedError(
    'SOURCE_INVALID',
    `cannot import ${path}: it is neither a file nor a block device`,
  )
}
