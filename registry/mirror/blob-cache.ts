import { LRUCache } from 'lru-cache'
import { digestAlgorithm, type Digest } from '../../core/digest.ts'
import { CodedError } from '../../core/errors.ts'
import type { Log } from '../../core/log.ts'
import type { ByteRange } from '../../core/registry.ts'
import { observed, type Bytes } from '../../core/streams.ts'
import type { FoundBlob, StoredBlobs, StoreRegistry } from '../store-registry.ts'
import { startFill, type BlobFill } from './blob-fill.ts'
import type { MirrorMetrics } from './metrics.ts'
import { createSingleFlight } from './single-flight.ts'
import type { UpstreamRepository } from './upstream.ts'

/** So long the upstream's word on the length of a blob holds. */
const wordHoldsMs = 60_000
/** So long its "there is none" holds: who has just pushed it there waits no longer. */
const absentMs = 10_000
/** Blobs whose length, or whose repository, is remembered. */
const remembered = 10_000

/** One repository of a mirror: the blobs held of it here, and where they come from. */
export interface MirroredBlobs {
  readonly name: string
  readonly held: StoredBlobs
  readonly upstream: UpstreamRepository
}

/** Disposing gives up the fills at work and waits for their end. */
export interface BlobCache extends AsyncDisposable {
  /**
   * A blob as the upstream has it. One that is held is read from the store. A whole one that is
   * not fills the store meanwhile, once for all its readers; a part of one is passed on from the
   * upstream and not kept, unless a fill at work has come that far.
   */
  find(repository: MirroredBlobs, digest: Digest): Promise<FoundBlob | undefined>
}

export interface BlobCacheParts {
  /** The store itself. */
  readonly local: StoreRegistry
  readonly metrics: MirrorMetrics
  readonly log: Log
  /** A fill that nobody reads any more goes on for so long. */
  readonly patienceMs: number
}

interface Missing {
  readonly repository: MirroredBlobs
  readonly digest: Digest
  readonly size: number
}

interface RunningFill {
  readonly stop: AbortController
  /** Rejects where the store refuses the bytes before the first one. */
  readonly fill: Promise<BlobFill>
}

export function createBlobCache(parts: BlobCacheParts): BlobCache {
  const { local, metrics, log, patienceMs } = parts
  const fills = new Map<string, RunningFill>()
  const sizes = new LRUCache<string, number | 'absent'>({ max: remembered, ttl: wordHoldsMs })
  const holders = new LRUCache<Digest, string>({ max: remembered })
  const fly = createSingleFlight<number | undefined>()

  const idOf = ({ name }: MirroredBlobs, digest: Digest): string => `${name}@${digest}`

  /** Length of a blob that is not held; `undefined` where the upstream has none. */
  async function sizeAtUpstream(repository: MirroredBlobs, digest: Digest) {
    const id = idOf(repository, digest)
    const known = sizes.get(id)
    if (known !== undefined) return known === 'absent' ? undefined : known
    return fly(id, async () => {
      const found = await repository.upstream.statBlob(digest)
      if (found) sizes.set(id, found.size)
      else sizes.set(id, 'absent', { ttl: absentMs })
      return found?.size
    })
  }

  /**
   * Another repository of this mirror may hold the blob. The upstream has just said that this one
   * has it too: then the bytes need not come twice.
   */
  async function mountHeld({ name }: MirroredBlobs, digest: Digest): Promise<boolean> {
    const from = holders.get(digest)
    if (from === undefined || from === name) return false
    return local.mountBlob(digest, { from, to: name, mayPull: () => true })
  }

  function received(bytes: Bytes): Bytes {
    return observed(bytes, (chunk) => metrics.received(chunk.length))
  }

  async function openFill(missing: Missing, stop: AbortController): Promise<BlobFill> {
    const { repository, digest, size } = missing
    const { held, upstream, name } = repository
    const { signal } = stop
    const writer = await held.create({ signal, expectedBytes: size, readBack: true })
    const range = { start: 0, end: size }
    holders.set(digest, name)
    return startFill({
      digest,
      size,
      writer,
      stop,
      patienceMs,
      source: received(upstream.readBlob(digest, { size, range, signal })),
      readStored: (part, reading) => held.read(digest, { range: part, signal: reading }),
    })
  }

  /** One that is being given up is of no use to who comes now. */
  const useful = (fill: RunningFill | undefined): RunningFill | undefined =>
    fill?.stop.signal.aborted === true ? undefined : fill

  function fillOf(missing: Missing): RunningFill {
    const id = idOf(missing.repository, missing.digest)
    const running = useful(fills.get(id))
    if (running) return running
    const stop = new AbortController()
    const started = { stop, fill: openFill(missing, stop) }
    fills.set(id, started)
    const forget = (): void => {
      if (fills.get(id) === started) fills.delete(id)
    }
    started.fill.then(({ ended }) => ended).then(forget, forget)
    return started
  }

  function noteRefusal({ repository: { name }, digest }: Missing, error: unknown): void {
    log.warn({ err: error, name, digest }, 'cannot keep a mirrored blob; it is passed on')
  }

  /** `running`: the fill that was at work when the blob was found not to be held. */
  async function* readMissing(
    missing: Missing,
    running: RunningFill | undefined,
    range: ByteRange,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array, void> {
    const { repository, digest, size } = missing
    const isWhole = range.start === 0 && range.end === size
    // The store verifies by sha256 only.
    const mayFill = isWhole && digestAlgorithm(digest) === 'sha256'
    const joined = useful(running)
    const filling = joined ?? (mayFill ? fillOf(missing) : undefined)
    const fill = await filling?.fill.catch((error: unknown) => noteRefusal(missing, error))
    let at = range.start
    if (fill && (isWhole || fill.filled >= at)) {
      metrics.request('blob', joined ? 'hit' : 'miss')
      try {
        for await (const chunk of fill.read(range, signal)) {
          yield chunk
          at += chunk.length
        }
        return
      } catch (error) {
        if (!fill.isRefused || signal.aborted) throw error
        noteRefusal(missing, error)
      }
    }
    metrics.request('blob', 'passed')
    const rest = { start: at, end: range.end }
    yield* received(repository.upstream.readBlob(digest, { size, range: rest, signal }))
  }

  function heldBlob(found: FoundBlob): FoundBlob {
    return {
      ...found,
      read(range, signal) {
        metrics.request('blob', 'hit')
        return found.read(range, signal)
      },
      async redirect(hostname) {
        const elsewhere = await found.redirect(hostname)
        if (elsewhere !== undefined) metrics.request('blob', 'hit')
        return elsewhere
      },
    }
  }

  return {
    async find(repository, digest) {
      // Looked for first: one that ends in between has stored the blob by then.
      const running = useful(fills.get(idOf(repository, digest)))
      const held = await repository.held.find(digest)
      if (held) return heldBlob(held)
      const size = await sizeAtUpstream(repository, digest)
      if (size === undefined) return undefined
      if (!running && (await mountHeld(repository, digest))) {
        const mounted = await repository.held.find(digest)
        if (mounted) return heldBlob(mounted)
      }
      const missing = { repository, digest, size }
      const whole = { start: 0, end: size }
      return {
        size,
        read: (range = whole, signal) => readMissing(missing, running, range, signal),
        redirect: async () => undefined,
      }
    },
    async [Symbol.asyncDispose]() {
      const reason = new CodedError('UNAVAILABLE', 'the server is stopping')
      const running = [...fills.values()]
      for (const { stop } of running) stop.abort(reason)
      await Promise.allSettled(running.map(async ({ fill }) => (await fill).ended))
    },
  }
}
