import type { CodedError } from '../core/errors.ts'
import type { Bytes } from '../core/streams.ts'

/** A file of an archive. */
export interface ArchivedFile {
  readonly name: string
  readonly size: number
  /** To be read before the next file is asked for; what is not read is skipped. */
  readonly contents: Bytes
}

/**
 * The one file of `files`: given out at once, and before its end is told there was no second one.
 * Throws `refuse` of the first two that there are, where that is not one. The caller returns `files`
 * where the contents are not read to their end.
 */
export async function onlyFile(
  files: AsyncGenerator<ArchivedFile, void>,
  refuse: (first?: ArchivedFile, second?: ArchivedFile) => CodedError,
): Promise<ArchivedFile & { readonly contents: AsyncGenerator<Uint8Array, void> }> {
  const next = await files.next()
  if (next.done === true) throw refuse()
  const first = next.value
  async function* contents(): AsyncGenerator<Uint8Array, void> {
    yield* first.contents
    const second = await files.next()
    if (second.done !== true) throw refuse(first, second.value)
  }
  return { ...first, contents: contents() }
}
