import { digestAlgorithm, digestOf, parseDigest, type Digest } from '../../core/digest.ts'
import type { HashPool } from '../../core/hash-pool.ts'
import type { Log } from '../../core/log.ts'
import type { FoundBlob, StoreRegistry } from '../store-registry.ts'
import { entryNames, type ArchiveIndex } from './archive.ts'
import { whyNot } from './see.ts'
import { tarHeader, tarPadding } from './tar-writer.ts'

type Chunks<T = void> = Generator<Uint8Array, T>
type AsyncChunks<T = void> = AsyncGenerator<Uint8Array, T>

/** Entries of an archive as chunks of a tar stream, each valid until the next one is asked for. */
export interface ArchiveWriter {
  /** What was written so far. */
  readonly index: ArchiveIndex
  /** Reads ahead what is small of those, which `blob` is then asked for; one call's at a time. */
  prepare(name: string, digests: Iterable<Digest>): Promise<void>
  /** A blob of the repository, once; false where that cannot read it or it is not whole. */
  blob(name: string, digest: Digest): AsyncChunks<boolean>
  /** A manifest, once. */
  manifest(digest: Digest, bytes: Uint8Array): Chunks
  json(entry: string, value: object): Chunks
  /** Something damaged is not in the archive. */
  leaveOut(repository: string, what: string, why: string): void
}

export interface ArchiveWriterParts {
  readonly registry: StoreRegistry
  readonly hashPool: HashPool
  readonly log: Log
}

const zeros = new Uint8Array(1024 * 1024)
const smallBytes = 256 * 1024
/** Together they are held in memory. */
const mostPrepared = 64

/** A blob that the repository can read; its bytes where it is small and nothing is wrong. */
interface Loaded {
  readonly blob: FoundBlob
  readonly bytes?: Uint8Array
}

export function createArchiveWriter(
  { registry, hashPool, log }: ArchiveWriterParts,
  { mtimeS, signal }: { readonly mtimeS: number; readonly signal: AbortSignal },
): ArchiveWriter {
  const index: ArchiveIndex = {
    repositories: 0,
    blobs: 0,
    manifests: 0,
    tags: 0,
    bytes: 0,
    leftOut: [],
    void: [],
  }
  /** Whether what is in the archive is the blob. */
  const blobs = new Map<Digest, boolean>()
  const manifests = new Set<Digest>()
  let prepared = new Map<string, Promise<Loaded | undefined>>()

  function leaveOut(repository: string, what: string, why: string): void {
    log.error({ repository, what, why }, 'left out of an export')
    index.leftOut.push({ repository, what, why })
  }

  function* file(entry: string, bytes: Uint8Array): Chunks<undefined> {
    yield tarHeader(entry, bytes.length, mtimeS)
    yield bytes
    yield tarPadding(bytes.length)
    return undefined
  }

  async function load(name: string, digest: Digest): Promise<Loaded | undefined> {
    const blob = await registry.repository(name).blobs.find(digest)
    if (!blob || blobs.has(digest) || blob.size > smallBytes) return blob && { blob }
    try {
      const chunks: Uint8Array[] = []
      for await (const chunk of blob.read(undefined, signal)) chunks.push(Uint8Array.from(chunk))
      const bytes = Buffer.concat(chunks)
      const isWhole = digestOf(bytes, digestAlgorithm(digest)) === digest
      return isWhole ? { blob, bytes } : { blob }
    } catch {
      // It is read once more when its turn comes, and judged then.
      return { blob }
    }
  }

  /** All bytes of a blob as an entry; why they are not the blob, where they are not. */
  async function* contents(digest: Digest, blob: FoundBlob): AsyncChunks<string | undefined> {
    const { size } = blob
    const algorithm = digestAlgorithm(digest)
    using hash = hashPool.hashStream({ algorithm })
    let written = 0
    let hasBegun = false
    let failure: string | undefined
    const chunks = blob.read(undefined, signal)[Symbol.asyncIterator]()
    try {
      for (;;) {
        const next = await chunks.next()
        if (!hasBegun) yield tarHeader(entryNames.blob(digest), size, mtimeS)
        hasBegun = true
        if (next.done === true) break
        await hash.write(next.value)
        written += next.value.length
        yield next.value
      }
    } catch (error) {
      signal.throwIfAborted()
      failure = whyNot(error)
      // Nothing was written of it: it is as if it had not been there.
      if (!hasBegun) return failure
    } finally {
      await chunks.return?.()
    }
    // The length was said before the bytes.
    for (let left = size - written; left > 0; left -= zeros.length) yield zeros.subarray(0, left)
    yield tarPadding(size)
    const actual = parseDigest(`${algorithm}:${(await hash.finish()).hex}`)
    if (actual === digest) return undefined
    index.void.push(digest)
    return failure ?? `its bytes have the digest ${actual}`
  }

  return {
    index,
    leaveOut,
    async prepare(name, digests) {
      const some = [...digests].slice(0, mostPrepared)
      prepared = new Map(some.map((digest) => [`${name} ${digest}`, load(name, digest)]))
      await Promise.all(prepared.values())
    },
    async *blob(name, digest) {
      signal.throwIfAborted()
      const loaded = await (prepared.get(`${name} ${digest}`) ?? load(name, digest))
      if (!loaded) return false
      const known = blobs.get(digest)
      if (known !== undefined) return known
      const { blob, bytes } = loaded
      const why = bytes
        ? yield* file(entryNames.blob(digest), bytes)
        : yield* contents(digest, blob)
      blobs.set(digest, why === undefined)
      if (why === undefined) {
        index.blobs++
        index.bytes += blob.size
        return true
      }
      // Where it is gone now, it went while it was read.
      if (await registry.repository(name).blobs.find(digest)) leaveOut(name, digest, why)
      return false
    },
    *manifest(digest, bytes) {
      if (manifests.has(digest)) return
      manifests.add(digest)
      index.manifests++
      yield* file(entryNames.manifest(digest), bytes)
    },
    json: (entry, value) => file(entry, Buffer.from(JSON.stringify(value))),
  }
}
