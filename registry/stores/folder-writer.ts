import { createBlobHash, type BlobHash, type SharedHash } from '../../core/blob-hash.ts'
import { digestAlgorithm, digestHex, type Digest } from '../../core/digest.ts'
import { CodedError } from '../../core/errors.ts'
import type { HashResult } from '../../core/hash-pool.ts'
import { bufferBytes, buffers } from '../buffers.ts'
import type { DataFile, DataWriter, WriteOptions } from '../data-store.ts'
import type { Checkpoint } from '../records.ts'
import { createSpool } from '../uploads/spool.ts'

/** What a writer appends to. */
export interface WritableFile extends DataFile {
  truncate(size: number): Promise<void>
  /** Writes and hashes `bytes`, which are in shared memory, on another thread. */
  writeHashed(position: number, bytes: Uint8Array, hash: SharedHash): Promise<void>
}

/** Appends to `file`, which ends where `from` does; each piece is written and hashed at a time. */
export async function createFolderWriter(
  file: WritableFile,
  { from, algorithm, chunkDigests = false, record }: WriteOptions,
): Promise<DataWriter> {
  let hash = await openHash(from)
  let result: HashResult | undefined

  const spool = createSpool(
    {
      async write(position, bytes) {
        // Less than a buffer is not worth the way to another thread.
        const isShared = bytes.buffer instanceof SharedArrayBuffer
        if (hash.shared && isShared && bytes.length === bufferBytes) {
          await file.writeHashed(position, bytes, hash.shared)
          return
        }
        const hashed = hash.updateAside(bytes)
        try {
          await file.write(position, bytes)
        } finally {
          // The caller uses the memory again.
          await hashed
        }
      },
      sync: () => file.sync(),
    },
    {
      start: from?.offset ?? 0,
      onSync(end) {
        const checkpoint = describe(end)
        return () => record(checkpoint)
      },
    },
  )

  /** Without a state that is of use here the bytes before are read again. */
  async function openHash(at: Checkpoint | undefined): Promise<BlobHash> {
    const state = at?.hashes?.[algorithm]
    const resumed = state === undefined ? undefined : createBlobHash({ algorithm }, state)
    return resumed ?? hashFile(file, createBlobHash({ algorithm, chunkDigests }), at?.offset ?? 0)
  }

  /** All up to `offset` is in the file and hashed. */
  function describe(offset: number): Checkpoint {
    const state = hash.save()
    return state === undefined ? { offset } : { offset, hashes: { [algorithm]: state } }
  }

  async function digest(): Promise<HashResult> {
    await spool.flush()
    result ??= hash.finish()
    return result
  }

  async function hexOf(expected: Digest): Promise<string> {
    if (digestAlgorithm(expected) === algorithm) return (await digest()).hex
    await spool.flush()
    const again = createBlobHash({ algorithm: digestAlgorithm(expected) })
    return (await hashFile(file, again, spool.end)).finish().hex
  }

  return {
    get end() {
      return spool.end
    },
    write: (chunk) => spool.write(chunk),
    async checkpoint() {
      await spool.flush()
      const checkpoint = describe(spool.end)
      await spool.sync()
      return checkpoint
    },
    async rollback(to) {
      await spool.rollback(to.offset)
      await file.truncate(to.offset)
      result = undefined
      hash = await openHash(to)
    },
    digest,
    async finish(expected) {
      const hex = await hexOf(expected)
      if (hex !== digestHex(expected)) {
        throw new CodedError(
          'DIGEST_INVALID',
          `the ${spool.end} bytes sent do not have the digest ${expected}; they have ${digestAlgorithm(expected)}:${hex}`,
        )
      }
      await spool.sync()
      return { offset: spool.end }
    },
    async [Symbol.asyncDispose]() {
      await spool.settle()
      await file[Symbol.asyncDispose]()
    },
  }
}

/** Takes the first `end` bytes of the file, and is given back. */
async function hashFile(file: DataFile, hash: BlobHash, end: number): Promise<BlobHash> {
  const buffer = buffers.take()
  try {
    for (let at = 0; at < end;) {
      const piece = buffer.subarray(0, Math.min(bufferBytes, end - at))
      const got = await file.read(at, piece)
      if (got < piece.length) throw new Error(`a data object ends at ${at + got}, before ${end}`)
      await hash.updateAside(piece)
      at += got
    }
    return hash
  } finally {
    buffers.giveBack(buffer)
  }
}
