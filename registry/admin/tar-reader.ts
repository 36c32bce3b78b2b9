import { pipeline } from 'node:stream/promises'
import { extract } from 'tar-stream'
import type { Bytes } from '../../core/streams.ts'
import { invalidArchive } from './archive.ts'
import { whyNot } from './see.ts'

export interface TarEntry {
  readonly name: string
  readonly size: number
  /** To be read before the next entry; what is not read is skipped. */
  readonly contents: Bytes
}

/**
 * The entries of a tar stream, one after the other. Throws ARCHIVE_INVALID where it is none or ends
 * in the middle of an entry, and what reading `bytes` throws.
 */
export async function* readTar(bytes: Bytes): AsyncGenerator<TarEntry, void> {
  const entries = extract()
  let broken: { readonly error: unknown } | undefined
  async function* source(): AsyncGenerator<Uint8Array, void> {
    try {
      yield* bytes
    } catch (error) {
      broken = { error }
      throw error
    }
  }
  function reasonOf(error: unknown): unknown {
    if (broken) return broken.error
    const why = whyNot(error)
    const isCut = why === 'Unexpected end of data'
    return invalidArchive(isCut ? 'it is cut off in the middle; nothing was tagged' : why, error)
  }
  async function* read(entry: AsyncIterable<unknown>): AsyncGenerator<Uint8Array, void> {
    try {
      for await (const chunk of entry) if (chunk instanceof Uint8Array) yield chunk
    } catch (error) {
      throw reasonOf(error)
    }
  }
  const feeding = pipeline(source(), entries)
  // The iterator of the entries fails with the same.
  feeding.catch(() => {})
  try {
    for await (const entry of entries) {
      const { name, size } = entry.header
      yield { name, size, contents: read(entry) }
      for await (const _ of entry) continue
    }
    await feeding
  } catch (error) {
    throw reasonOf(error)
  } finally {
    entries.destroy()
    await feeding.catch(() => {})
  }
}
