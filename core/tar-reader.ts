import { pipeline } from 'node:stream/promises'
import { extract } from 'tar-stream'
import type { CodedError } from './errors.ts'
import type { Bytes } from './streams.ts'

export interface TarEntry {
  /** As it is written there. */
  readonly name: string
  /** `file`, `directory`, `symlink`, `link` and others; `undefined` for one that nobody knows. */
  readonly type: string | undefined
  readonly size: number
  /** To be read before the next entry; what is not read is skipped. */
  readonly contents: Bytes
}

/** What a tar is refused with; `isCut`: it ends in the middle of an entry. */
export type RefuseTar = (cause: unknown, facts: { readonly isCut: boolean }) => CodedError

/**
 * The entries of a tar stream, one after the other. Throws what `refuse` makes of bytes that are
 * none or are cut off, and what reading `bytes` throws. Reads to the end of the bytes.
 */
export async function* readTar(bytes: Bytes, refuse: RefuseTar): AsyncGenerator<TarEntry, void> {
  const entries = extract()
  let broken: { readonly error: unknown } | undefined
  async function* source(): AsyncGenerator<Uint8Array, void> {
    try {
      // The parser keeps chunks for longer than they are valid.
      for await (const chunk of bytes) yield Uint8Array.from(chunk)
    } catch (error) {
      broken = { error }
      throw error
    }
  }
  function reasonOf(error: unknown): unknown {
    if (broken) return broken.error
    const isCut = error instanceof Error && error.message === 'Unexpected end of data'
    return refuse(error, { isCut })
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
      const { name, size, type } = entry.header
      yield { name, type: type ?? undefined, size, contents: read(entry) }
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

/** Bytes of a header, the least that `isTarHead` needs. */
export const tarHeadBytes = 512

/** By the checksum that every header has; zeros alone are none. @see POSIX ustar */
export function isTarHead(head: Uint8Array): boolean {
  if (head.length < tarHeadBytes || head[0] === 0) return false
  const text = Buffer.from(head.subarray(148, 156)).toString('latin1')
  const said = /^\s*([0-7]{1,8})[\s\0]*$/.exec(text)?.[1]
  // The field itself counts as blanks.
  const sum = head
    .subarray(0, tarHeadBytes)
    .reduce((all, byte, at) => all + (at >= 148 && at < 156 ? 0x20 : byte), 0)
  return said !== undefined && parseInt(said, 8) === sum
}
