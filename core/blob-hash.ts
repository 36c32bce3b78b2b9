import { createHash } from 'node:crypto'
import { chunkBytes, type HashOptions, type HashResult } from './hash-pool.ts'
import { createResumableHash, type HashAlgorithm } from './resumable-hash.ts'

/** The digest of a run of bytes and, where asked for, of every 4 MiB of it. */
export interface BlobHash {
  update(bytes: Uint8Array): void
  /**
   * The same in Node's thread pool. Until it resolves `bytes` must stay as they are and nothing
   * else may be asked of this hash.
   */
  updateAside(bytes: Uint8Array): Promise<void>
  /** For `from` of another one; `undefined` where this platform or algorithm has no such states. */
  save(): string | undefined
  finish(): HashResult
  /**
   * What `updateContext` needs to go on with it in another thread; `undefined` where only this
   * object can. Nothing else may be asked of it meanwhile.
   */
  readonly shared: SharedHash | undefined
}

export interface SharedHash {
  readonly algorithm: HashAlgorithm
  readonly context: SharedArrayBuffer
}

/** Goes on from a saved state; `undefined` where that cannot be: the bytes are hashed again then. */
export function createBlobHash(options: HashOptions): BlobHash
export function createBlobHash(options: HashOptions, from: string | undefined): BlobHash | undefined
export function createBlobHash(
  { algorithm = 'sha256', chunkDigests = false }: HashOptions,
  from?: string,
): BlobHash | undefined {
  const whole = createAnyHash(algorithm, from)
  if (!whole) return undefined
  const chunks = chunkDigests ? createChunkHash() : undefined
  return {
    shared: chunkDigests ? undefined : whole.shared,
    update(bytes) {
      whole.update(bytes)
      for (const part of chunks?.split(bytes) ?? []) part.hash.update(part.bytes)
    },
    async updateAside(bytes) {
      await whole.updateAside(bytes)
      for (const part of chunks?.split(bytes) ?? []) await part.hash.updateAside(part.bytes)
    },
    save: () => whole.save(),
    finish: () => ({ hex: whole.digest(), chunkDigests: chunks?.finish() ?? new Uint8Array() }),
  }
}

interface AnyHash {
  update(bytes: Uint8Array): void
  updateAside(bytes: Uint8Array): Promise<void>
  save(): string | undefined
  digest(): string
  readonly shared: SharedHash | undefined
}

function createAnyHash(algorithm: HashAlgorithm, from?: undefined): AnyHash
function createAnyHash(algorithm: HashAlgorithm, from?: string): AnyHash | undefined
function createAnyHash(algorithm: HashAlgorithm, from?: string): AnyHash | undefined {
  const resumable = createResumableHash(algorithm, from)
  if (resumable) return { ...resumable, shared: { algorithm, context: resumable.context } }
  if (from !== undefined) return undefined
  const hash = createHash(algorithm)
  return {
    update: (bytes) => void hash.update(bytes),
    updateAside: async (bytes) => void hash.update(bytes),
    save: () => undefined,
    shared: undefined,
    digest: () => hash.digest('hex'),
  }
}

function createChunkHash() {
  const digests: string[] = []
  let hash = createAnyHash('sha256')
  let filled = 0

  function endChunk(): void {
    digests.push(hash.digest())
    hash = createAnyHash('sha256')
    filled = 0
  }

  return {
    /** Pieces that end where chunks end; each is hashed before the next is asked for. */
    *split(bytes: Uint8Array) {
      for (let at = 0; at < bytes.length;) {
        const part = bytes.subarray(at, at + chunkBytes - filled)
        at += part.length
        filled += part.length
        yield { hash, bytes: part }
        if (filled === chunkBytes) endChunk()
      }
    },
    finish(): Uint8Array {
      if (filled > 0) endChunk()
      return Uint8Array.from(Buffer.from(digests.join(''), 'hex'))
    },
  }
}
