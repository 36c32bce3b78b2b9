import { LRUCache } from 'lru-cache'
import { digestAlgorithm, type Digest } from '../../core/digest.ts'
import type { ErrorCode } from '../../core/error-codes.ts'
import { CodedError, toCodedError } from '../../core/errors.ts'
import type { Log } from '../../core/log.ts'
import type { Blobs, ByteRange } from '../../core/registry.ts'
import { observed, type Bytes } from '../../core/streams.ts'
import { blobUnknown, type StoreRegistry } from '../store-registry.ts'
import { startFill, type BlobFill } from './blob-fill.ts'
import type { MirrorMetrics } from './metrics.ts'
import { createSingleFlight } from './single-flight.ts'
import type { UpstreamRepository } from './upstream.ts'

/** So long the upstream's word on a blob holds: whether it has it, and its length. */
const wordHoldsMs = 60_000
/** Blobs whose length, or whose repository, is remembered. */
const remembered = 10_000

/** One repository of a mirror: the blobs held of it here, and where they come from. */
export interface MirroredBlobs {
  readonly name: string
  readonly held: Blobs
  readonly upstream: UpstreamRepository
}

type ReadOptions = Parameters<Blobs['read']>[1]

/** Disposing gives up the fills at work and waits for their end. */
export interface BlobCache extends AsyncDisposable {
  stat(
    repository: MirroredBlobs,
    digest: Digest,
  ): Promise<{ readonly size: number } | undefined>
  /**
   * A held blob from the store. A whole one that is not held fills the store meanwhile, once for
   * all readers; a part of one is passed on from the upstream and not kept, unless a fill at work
   * has come that far.
   */
  read(repository: MirroredBlobs, digest: Digest, options: ReadOptions): Bytes
}

export interface BlobCacheParts {
  /** The store itself. */
  readonly local: StoreRegistry
  readonly metrics: MirrorMetrics
  readonly log: Log
  /** A fill that nobody reads any more goes on for so long. */
  readonly patienceMs: number
}

interface MissingRead {
  readonly size: number
  readonly range: ByteRange
  readonly signal: AbortSignal
  readonly running: Promise<BlobFill> | undefined
}

export function createBlobCache({ local, metrics, log, patienceMs }: BlobCacheParts): BlobCache {
  const fills = new Map<string, { readonly stop: AbortController; readonly fill: Promise<BlobFill> }>()
  const sizes = new LRUCache<string, number | 'absent'>({ max: remembered, ttl: wordHoldsMs })
  const holders = new LRUCache<Digest, string>({ max: remembered })
  const fly = createSingleFlight<number | undefined>()

  async function askSize({ upstream }: MirroredBlobs, digest: Digest, id: string) {
    const found = await upstream.statBlob(digest)
    sizes.set(id, found?.size ?? 'absent')
    return found?.size
  }

  /** Length of a blob that is not held; `undefined` where the upstream has none. */
  async function sizeAtUpstream(repository: MirroredBlobs, digest: Digest) {
    const id = `${repository.name}@${digest}`
    const known = sizes.get(id)
    if (known === 'absent') return undefined
    return known ?? (await fly(id, () => askSize(repository, digest, id)))
  }

  /**
   * Another repository of this mirror may hold the blob. The upstream has just said that this one
   * has it too: then the bytes need not come twice.
   */
  async function mountHeld({ name }: MirroredBlobs, digest: Digest): Promise<boolean> {
    const from = holders.get(digest)
    return from !== undefined && from !== name && local.mountBlob(digest, { from, to: name })
  }

  function received(bytes: Bytes): Bytes {
    return observed(bytes, (chunk) => metrics.received(chunk.length))
  }

  async function open(
    { name, held, upstream }: MirroredBlobs,
    { digest, size, stop }: { digest: Digest; size: number; stop: AbortController },
  ): Promise<BlobFill> {
    const { signal } = stop
    const writer = await held.create({ signal, expectedBytes: size, readBack: true })
    const whole = { start: 0, end: size }
    const fill = startFill({
      digest,
      size,
      writer,
      stop,
      patienceMs,
      source: received(upstream.readBlob(digest, { size, range: whole, signal })),
      readStored: (range, signal) => held.read(digest, { range, signal }),
    })
    void fill.ended.then(() => holders.set(digest, name))
    return fill
  }

  /** The fill at work, or a new one; rejects where the store refuses the bytes. */
  function fillOf(repository: MirroredBlobs, digest: Digest, size: number): Promise<BlobFill> {
    const id = `${repository.name}@${digest}`
    const running = fills.get(id)
    if (running) return running.fill
    const stop = new AbortController()
    const fill = open(repository, { digest, size, stop })
    fills.set(id, { stop, fill })
    const forget = (): boolean => fills.delete(id)
    fill.then(({ ended }) => ended).then(forget, forget)
    return fill
  }

  /** `running`: the fill that was at work when the blob was not held. */
  async function* readMissing(
    repository: MirroredBlobs,
    digest: Digest,
    { size, range, signal, running }: MissingRead,
  ): AsyncGenerator<Uint8Array, void> {
    const isWhole = range.start === 0 && range.end === size
    let at = range.start
    const cannotKeep = (error: unknown): void => {
      log.warn({ err: error, name: repository.name, digest }, 'cannot keep a mirrored blob')
    }
    // The store verifies by sha256 only.
    const mayFill = isWhole && digestAlgorithm(digest) === 'sha256'
    const filling = running ?? (mayFill ? fillOf(repository, digest, size) : undefined)
    const fill = await filling?.catch((error: unknown) => {
      if (!isRefusal(error, 'STORAGE_FULL', 'DENIED')) throw error
      cannotKeep(error)
    })
    if (fill && (isWhole || fill.filled >= at)) {
      metrics.request('blob', running ? 'hit' : 'miss')
      try {
        for await (const chunk of fill.read(range, signal)) {
          yield chunk
          at += chunk.length
        }
        return
      } catch (error) {
        if (!isRefusal(error, 'STORAGE_FULL')) throw error
        cannotKeep(error)
      }
    }
    metrics.request('blob', 'passed')
    const rest = { start: at, end: range.end }
    yield* received(repository.upstream.readBlob(digest, { size, range: rest, signal }))
  }

  return {
    async stat(repository, digest) {
      const held = await repository.held.stat(digest)
      if (held) return held
      const size = await sizeAtUpstream(repository, digest)
      return size === undefined ? undefined : { size }
    },
    async *read(repository, digest, options) {
      const { name, held } = repository
      // Looked for first: one that ends in between has stored the blob by then.
      const running = fills.get(`${name}@${digest}`)?.fill
      if (await held.stat(digest)) {
        metrics.request('blob', 'hit')
        yield* held.read(digest, options)
        return
      }
      const size = await sizeAtUpstream(repository, digest)
      if (size === undefined) throw blobUnknown(name, digest)
      if (await mountHeld(repository, digest)) {
        metrics.request('blob', 'hit')
        yield* held.read(digest, options)
        return
      }
      const { range = { start: 0, end: size }, signal } = options
      yield* readMissing(repository, digest, { size, range, signal, running })
    },
    async [Symbol.asyncDispose]() {
      const reason = new CodedError('UNAVAILABLE', 'the server is stopping')
      const running = [...fills.values()]
      for (const { stop } of running) stop.abort(reason)
      await Promise.allSettled(running.map(async ({ fill }) => (await fill).ended))
    },
  }
}

/** The store or a quota is full: the client gets the blob nevertheless. */
function isRefusal(error: unknown, ...codes: ErrorCode[]): boolean {
  return codes.includes(toCodedError(error).code)
}
