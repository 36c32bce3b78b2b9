import { execa, ExecaError } from 'execa'
import { CodedError } from '../core/errors.ts'
import type { Bytes } from '../core/streams.ts'

/**
 * xz by the `xz` command on all cores (multi-block files), at most `memoryLimit` bytes of memory.
 * Throws COMPRESSION_INVALID, or SIZE_EXCEEDED where the data needs more memory.
 */
export async function* xzByCommand(
  input: Bytes,
  { memoryLimit, signal }: { readonly memoryLimit: number; readonly signal: AbortSignal },
): AsyncGenerator<Uint8Array, void> {
  let sourceError: unknown
  async function* feed(): AsyncGenerator<Uint8Array, void> {
    try {
      yield* input
    } catch (error) {
      sourceError = error
      throw error
    }
  }
  const child = execa('xz', ['-dc', '-T0', `--memlimit-decompress=${memoryLimit}`], {
    stdin: copied(feed()),
    stdout: 'pipe',
    buffer: { stdout: false, stderr: true },
    encoding: 'buffer',
    maxBuffer: 64 * 1024,
    cancelSignal: signal,
    forceKillAfterDelay: 1000,
  })
  // The outcome is awaited below; a reader that stops early must not leave a rejection behind.
  child.catch(() => {})
  try {
    for await (const chunk of child.iterable({
      from: 'stdout',
      binary: true,
      preserveNewlines: true,
    })) {
      yield chunk
    }
    await child
  } catch (error) {
    if (sourceError !== undefined) throw sourceError
    signal.throwIfAborted()
    throw invalid(error)
  } finally {
    child.kill()
  }
}

/** A source may use a chunk's memory again while the pipe still holds it. */
async function* copied(input: Bytes): AsyncGenerator<Uint8Array, void> {
  for await (const chunk of input) yield Uint8Array.from(chunk)
}

function invalid(error: unknown): CodedError {
  const text = error instanceof ExecaError ? Buffer.from(error.stderr ?? '').toString() : ''
  const said = text.replaceAll(/^xz: \(stdin\): /gm, '').trim()
  if (/memory usage limit/i.test(said)) {
    return new CodedError('SIZE_EXCEEDED', `the xz data needs more memory than is allowed: ${said}`)
  }
  const why = said === '' ? String(error) : said
  return new CodedError('COMPRESSION_INVALID', `cannot decompress xz: ${why}`, { cause: error })
}
