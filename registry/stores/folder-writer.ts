import { digestAlgorithm, digestHex, type Digest } from '../../core/digest.ts'
import { CodedError } from '../../core/errors.ts'
import type { FileHash, HashResult } from '../../core/hash-pool.ts'
import type { DataFile, DataWriter, WriteOptions } from '../data-store.ts'
import type { Checkpoint } from '../records.ts'
import { createSpool } from '../spool.ts'

/** With so many bytes not hashed writing waits, so that the end of a blob does not. */
const mostUnhashedBytes = 32 * 1024 * 1024

/** Appends to `file`, which ends where `from` does, while another thread hashes behind. */
export function createFolderWriter(
  file: DataFile & { truncate(size: number): Promise<void> },
  { from, algorithm, chunkDigests = false, record }: WriteOptions,
): DataWriter {
  let hash = follow(from)
  let result: Promise<HashResult> | undefined

  const spool = createSpool(file, {
    start: from?.offset ?? 0,
    async onWritten(end) {
      hash.advance(end)
      await hash.reached(end - mostUnhashedBytes)
    },
    onSync(end) {
      const following = hash.checkpoint(end)
      return async () => record(describe(end, await following))
    },
  })

  /** Goes on with the saved state; without one the bytes before are read again meanwhile. */
  function follow(at: Checkpoint | undefined): FileHash {
    const state = at?.hashes?.[algorithm]
    const position = state === undefined ? undefined : { end: at?.offset ?? 0, state }
    const started = file.follow({ start: 0, from: position, algorithm, chunkDigests })
    if (at) started.advance(at.offset)
    return started
  }

  function describe(offset: number, state: string | undefined): Checkpoint {
    return state === undefined ? { offset } : { offset, hashes: { [algorithm]: state } }
  }

  async function digest(): Promise<HashResult> {
    await spool.flush()
    result ??= hash.finish(spool.end)
    return result
  }

  /** Another algorithm than the one that was followed is known only now. */
  async function hexOf(expected: Digest): Promise<string> {
    if (digestAlgorithm(expected) === algorithm) return (await digest()).hex
    using again = file.follow({ start: 0, algorithm: digestAlgorithm(expected) })
    await spool.flush()
    return (await again.finish(spool.end)).hex
  }

  return {
    get end() {
      return spool.end
    },
    write: (chunk) => spool.write(chunk),
    async checkpoint() {
      await spool.flush()
      const end = spool.end
      const [state] = await Promise.all([hash.checkpoint(end), spool.sync()])
      return describe(end, state)
    },
    async rollback(to) {
      await spool.rollback(to.offset)
      await file.truncate(to.offset)
      hash[Symbol.dispose]()
      result = undefined
      hash = follow(to)
    },
    digest,
    async finish(expected) {
      await spool.flush()
      const [verified, synced] = await Promise.allSettled([hexOf(expected), spool.sync()])
      if (verified.status === 'rejected') throw verified.reason
      if (synced.status === 'rejected') throw synced.reason
      if (verified.value === digestHex(expected)) return { offset: spool.end }
      throw new CodedError(
        'DIGEST_INVALID',
        `the ${spool.end} bytes sent do not have the digest ${expected}; they have ${digestAlgorithm(expected)}:${verified.value}`,
      )
    },
    async [Symbol.asyncDispose]() {
      hash[Symbol.dispose]()
      await spool.settle()
      await file[Symbol.asyncDispose]()
    },
  }
}
