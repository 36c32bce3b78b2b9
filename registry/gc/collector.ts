import type { Digest } from '../../core/digest.ts'
import type { Log } from '../../core/log.ts'
import type { ObjectStore } from '../../core/object-store.ts'
import type { DataStore } from '../data-store.ts'
import { digestOfKey, keys } from '../keys.ts'
import type { DeletedManifest } from '../manifests.ts'
import { collectLink, type Condemned, type LinkCandidate, type LinkParts } from './collect-link.ts'
import { collectManifest } from './collect-manifest.ts'
import { collectPointer } from './collect-pointer.ts'
import { createJobQueue, type Job } from './job-queue.ts'
import type { ReadReferences } from './references.ts'

/** What was answered may be used for so long: a push looks first and refers to it later. */
const answeredMs = 60_000
/** What lies further ahead is found by the next sweep. */
const plannedMs = 10 * 60_000

export interface CollectorParts {
  readonly objects: ObjectStore
  readonly data: Pick<DataStore, 'delete'>
  readonly readReferences: ReadReferences
  readonly accounts: LinkParts['accounts']
  readonly log: Log
  /** Ms that a blob nobody refers to is kept after its push. */
  readonly orphanGraceMs: number
  /** Ms from condemning a link to its end; `answeredMs` but for tests. */
  readonly graceMs?: number
  /** Hears of every blob whose data went, in bytes. */
  readonly onFreed: (bytes: number) => void
}

/**
 * Removes what nobody refers to any more while everybody goes on working; the steps and why they
 * are safe with any number of these at work: `docs/decisions/010-online-gc.md`.
 */
export interface Collector extends AsyncDisposable {
  /** A manifest is gone: looks at what it referred to. */
  onDeleted(manifest: DeletedManifest): void
  /** A manifest that should go where that was its last tag. */
  onUntagged(manifest: { readonly name: string; readonly digest: Digest }): void
  /** A blob lost a link, at ms of `Date.now()`. */
  onUnlinked(digest: Digest, at: number): void
  /** Looks at a link; one that is condemned is looked at again after the grace. */
  offerLink(name: string, digest: Digest): void
  /** Looks at a manifest that nothing may name any more. */
  offerManifest(name: string, digest: Digest): void
  /** Looks, after the grace, at a blob that no link may name any more. */
  offerPointer(digest: Digest): void
  /** Things waiting to be looked at. */
  readonly pendingCount: number
  /** Resolves when nothing is left to look at. */
  drained(): Promise<void>
}

export function createCollector(parts: CollectorParts): Collector {
  const { objects, data, readReferences, accounts, log, orphanGraceMs } = parts
  const { graceMs = answeredMs } = parts
  const queue = createJobQueue({
    concurrency: 2,
    onFailure: (error, name) => log.warn({ err: error, job: name }, 'cannot collect; tried again'),
  })

  function linkJob(name: string, digest: Digest, orphanGrace: number): Job {
    let waitedFor: Condemned | undefined
    const since = readReferences.now()
    return async () => {
      const candidate: LinkCandidate = {
        name,
        digest,
        orphanGraceMs: orphanGrace,
        askedGraceMs: graceMs,
        since,
        waitedFor,
      }
      const outcome = await collectLink({ objects, readReferences, accounts }, candidate)
      switch (outcome.kind) {
        case 'kept':
          return undefined
        case 'not-yet':
          return outcome.at > Date.now() + plannedMs ? undefined : outcome.at
        case 'waiting':
          waitedFor = outcome.condemned
          return Date.now() + graceMs
        case 'removed':
          addPointer(digest, Date.now())
          return undefined
      }
    }
  }

  function addLink(name: string, digest: Digest, grace: number): void {
    queue.add(`link ${name} ${digest} after ${grace} ms`, Date.now(), linkJob(name, digest, grace))
  }

  function addPointer(digest: Digest, due: number): void {
    queue.add(`blob ${digest}`, due, async () => {
      const outcome = await collectPointer({ objects, data }, digest)
      if (outcome.kind === 'removed') parts.onFreed(outcome.bytes)
      return undefined
    })
  }

  function addManifest(name: string, digest: Digest): void {
    queue.add(`manifest ${name} ${digest}`, Date.now(), async () => {
      const record = await collectManifest({ objects, readReferences }, { name, digest })
      if (record) onDeleted({ name, digest, record, reclaim: true })
      return undefined
    })
  }

  function onDeleted({ name, digest, record, reclaim }: DeletedManifest): void {
    for (const blob of [...record.blobs, ...record.kept]) {
      addLink(name, blob, reclaim ? 0 : orphanGraceMs)
    }
    if (!reclaim) return
    for (const child of record.manifests) addManifest(name, child)
    queue.add(`referrers ${name} ${digest}`, Date.now(), async () => {
      for (const key of await objects.list(keys.referrers(name, digest), {})) {
        const referrer = digestOfKey(key)
        if (referrer) addManifest(name, referrer)
      }
      return undefined
    })
  }

  return {
    onDeleted,
    onUntagged: ({ name, digest }) => addManifest(name, digest),
    onUnlinked: (digest, at) => addPointer(digest, at + graceMs),
    offerManifest: addManifest,
    offerPointer: (digest) => addPointer(digest, Date.now() + graceMs),
    offerLink: (name, digest) => addLink(name, digest, orphanGraceMs),
    get pendingCount() {
      return queue.size
    },
    drained: () => queue.drained(),
    [Symbol.asyncDispose]: () => queue[Symbol.asyncDispose](),
  }
}
