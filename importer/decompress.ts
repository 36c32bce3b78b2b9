import { access, constants } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { constants as zlib, createGunzip, createZstdDecompress } from 'node:zlib'
import type { Compression } from '../core/disk-format.ts'
import { CodedError } from '../core/errors.ts'
import { peek, type Bytes } from '../core/streams.ts'
import { xzByLibrary } from './xz-library.ts'
import { decodeWith } from './zlib-stage.ts'

const deepest = 2
const outputBytes = 1024 * 1024
/** What xz may use: enough for `xz -9` on two cores; bombs with larger dictionaries are refused. */
const xzMemoryLimit = 256 * 1024 * 1024
/** zstd windows up to 128 MiB, the format's recommended most for decoders. */
const zstdWindowLog = 27

/** By magic, never by name. Undefined: not wrapped. */
export function detectCompression(head: Uint8Array): Compression | undefined {
  const magic = Buffer.from(head.subarray(0, 6)).toString('hex')
  if (magic.startsWith('1f8b08')) return 'gzip'
  if (magic === 'fd377a585a00') return 'xz'
  // A frame, or a skippable frame before it. @see RFC 8878 §3.1
  if (magic.startsWith('28b52ffd') || /^5[0-9a-f]2a4d18/.test(magic)) return 'zstd'
  return undefined
}

/**
 * Unwraps `body`, at most two layers deep; `wrappings` from the outside in. Multi-member gzip,
 * multi-stream xz and multi-frame zstd are one stream. Throws COMPRESSION_INVALID for damaged,
 * truncated or trailing bytes, FORMAT_UNSUPPORTED for a third layer.
 */
export async function decompress(
  body: Bytes,
  { signal }: { readonly signal: AbortSignal },
): Promise<{
  readonly body: AsyncGenerator<Uint8Array, void>
  readonly wrappings: readonly Compression[]
}> {
  const wrappings: Compression[] = []
  let current = body
  for (;;) {
    const { head, rest } = await peek(current, 6)
    const compression = detectCompression(head)
    if (!compression) return { body: rest, wrappings }
    if (wrappings.length === deepest) {
      await rest.return()
      throw new CodedError(
        'FORMAT_UNSUPPORTED',
        `compressed more than ${deepest} times (${[...wrappings, compression].join(', ')}); unpack it first`,
      )
    }
    wrappings.push(compression)
    current = await decoded(compression, rest, signal)
  }
}

async function decoded(compression: Compression, body: Bytes, signal: AbortSignal): Promise<Bytes> {
  switch (compression) {
    case 'gzip':
      return decodeWith(createGunzip({ chunkSize: outputBytes }), body, {
        name: 'gzip',
        zeroPadding: true,
      })
    case 'zstd':
      return decodeWith(
        createZstdDecompress({
          chunkSize: outputBytes,
          params: { [zlib.ZSTD_d_windowLogMax]: zstdWindowLog },
        }),
        body,
        { name: 'zstd', zeroPadding: false },
      )
    case 'xz': {
      if (!(await onPath('xz'))) return xzByLibrary(body, { memoryLimit: xzMemoryLimit })
      // Loaded with the first use: starting programs takes 10 MB that most imports do not need.
      const { xzByCommand } = await import('./xz-command.ts')
      return xzByCommand(body, { memoryLimit: xzMemoryLimit, signal })
    }
  }
}

async function onPath(command: string): Promise<boolean> {
  for (const folder of (process.env['PATH'] ?? '')
    .split(delimiter)
    .filter((entry) => entry !== '')) {
    const found = await access(join(folder, command), constants.X_OK).then(
      () => true,
      () => false,
    )
    if (found) return true
  }
  return false
}
