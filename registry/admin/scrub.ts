import { z } from 'zod'
import type { Digest } from '../../core/digest.ts'
import { CodedError } from '../../core/errors.ts'
import type { Log } from '../../core/log.ts'
import { digestOfKey, keys } from '../keys.ts'
import { pointerRecord, type Pointer } from '../records.ts'
import { readVersioned } from '../versioned.ts'
import { walkKeys } from './keyspace.ts'
import {
  listQuarantine,
  purgeQuarantine,
  quarantine,
  severLinks,
  type QuarantinedBlob,
  type QuarantineParts,
} from './quarantine.ts'
import { createRate } from './rate.ts'
import { createScrubLeads, fromNow, scrubPass, type ScrubLead } from './scrub-lead.ts'
import { whyNot } from './see.ts'
import { verifyBlob, type Verdict, type VerifyParts } from './verify-blob.ts'

export const scrubState = z.object({
  running: z.boolean(),
  /** `undefined` before the first one. */
  pass: scrubPass.optional(),
})
export type ScrubState = z.output<typeof scrubState>

/** `progress`, now and then; `damaged`, each; `report`, at the end of the pass. */
export const scrubEvent = z.union([
  z.object({ progress: scrubPass }),
  z.object({
    damaged: z.object({ digest: z.string(), why: z.string(), isQuarantined: z.boolean() }),
  }),
  z.object({ report: scrubPass }),
])
export type ScrubEvent = z.output<typeof scrubEvent>

export interface ScrubOptions {
  readonly bytesPerSecond: number
  readonly signal: AbortSignal
}

/** Reads all blobs again, so that damage is found before somebody needs them. */
export interface Scrub {
  /**
   * Goes on with the pass that is not finished, or begins one, to its end; where it is left, the
   * next one goes on behind the last whole blob. UNAVAILABLE: a process is at work on it.
   */
  run(options: ScrubOptions): AsyncIterable<ScrubEvent>
  state(): Promise<ScrubState>
  /** What is in quarantine. */
  list(): Promise<QuarantinedBlob[]>
  /** Deletes the bytes in quarantine for good. */
  purge(): Promise<{ readonly blobs: number; readonly bytes: number }>
}

export interface ScrubParts extends QuarantineParts, VerifyParts {
  readonly data: QuarantineParts['data'] & VerifyParts['data']
  readonly log: Log
}

export function createScrub(parts: ScrubParts): Scrub {
  const { objects } = parts
  const leads = createScrubLeads(objects)
  return {
    async *run(options) {
      yield* runPass(parts, await leads.take(), options)
    },
    async state() {
      const last = await leads.look()
      return last ? { running: last.isAtWork, pass: last.pass } : { running: false }
    },
    list: () => listQuarantine(objects),
    purge: () => purgeQuarantine(parts),
  }
}

const progressEveryMs = 500

async function* runPass(
  parts: ScrubParts,
  lead: ScrubLead,
  { bytesPerSecond, signal }: ScrubOptions,
): AsyncGenerator<ScrubEvent, void> {
  const { objects, log } = parts
  const pass = { ...lead.pass }
  let { after } = lead
  let saidAt = 0
  let hasEnded = false
  const take = createRate(bytesPerSecond, signal)

  async function* readAll(digest: Digest, pointer: Pointer): AsyncGenerator<ScrubEvent, Verdict> {
    const verifying = verifyBlob(parts, digest, pointer, signal)
    for (;;) {
      const next = await verifying.next()
      if (next.done === true) return next.value
      pass.bytes += next.value
      await take(next.value)
      await lead.saveNowAndThen({ pass, after })
      if (performance.now() - saidAt < progressEveryMs) continue
      saidAt = performance.now()
      yield { progress: { ...pass } }
    }
  }

  async function* scrubBlob(digest: Digest): AsyncGenerator<ScrubEvent, void> {
    const found = await readVersioned(objects, pointerRecord, keys.pointer(digest))
    if (found?.record.state === 'dead' && found.record.quarantined === true) {
      // Links that were about to come when it was taken out of service, or a crash in between.
      await severLinks(parts, digest)
    }
    if (!found || found.record.state === 'dead') return
    const verdict = yield* readAll(digest, found.record)
    pass.blobs++
    if (verdict.kind !== 'whole') yield* readAgain(digest, verdict.why)
  }

  /** It may have been removed meanwhile, or the memory was at fault. */
  async function* readAgain(digest: Digest, first: string): AsyncGenerator<ScrubEvent, void> {
    const found = await readVersioned(objects, pointerRecord, keys.pointer(digest))
    if (!found || found.record.state === 'dead') return
    const verdict = yield* readAll(digest, found.record)
    if (verdict.kind === 'whole') {
      log.warn({ digest, first }, 'a blob was read wrong once, and right the second time')
    } else if (verdict.kind === 'unreadable') {
      log.error({ digest, why: verdict.why }, 'a blob cannot be read: the storage fails')
      pass.unreadable++
      yield { damaged: { digest, why: verdict.why, isQuarantined: false } }
    } else {
      const { why } = verdict
      const record = await quarantine(parts, digest, found, verdict)
      if (!record) return
      const { repositories } = record
      log.error({ digest, why, repositories }, 'a damaged blob is out of service: push it again')
      pass.damaged++
      yield { damaged: { digest, why, isQuarantined: true } }
    }
  }

  try {
    for await (const page of walkKeys(objects, keys.blobs, after)) {
      for (const key of page) {
        signal.throwIfAborted()
        const digest = digestOfKey(key)
        if (!digest) continue
        try {
          yield* scrubBlob(digest)
        } catch (error) {
          if (signal.aborted || isTakenOver(error)) throw error
          log.error({ digest, err: error }, 'cannot scrub a blob')
          pass.unreadable++
          yield { damaged: { digest, why: whyNot(error), isQuarantined: false } }
        }
        after = key
        pass.share = shareOf(digest)
        await lead.saveNowAndThen({ pass, after })
      }
    }
    hasEnded = true
    pass.share = 1
    pass.finishedAt = fromNow(0)
    await lead.end({ pass, after: undefined })
    yield { report: { ...pass } }
  } finally {
    // Then the next one need not wait. A lead that was lost is not ours to give back.
    if (!hasEnded) {
      await lead
        .end({ pass, after })
        .catch((error: unknown) => log.warn({ err: error }, 'cannot record how far a scrub came'))
    }
  }
}

function isTakenOver(error: unknown): boolean {
  return error instanceof CodedError && error.code === 'UNAVAILABLE'
}

/** Digests are spread evenly; sha512 comes after sha256, and most stores have none. */
function shareOf(digest: Digest): number {
  const [algorithm, hex = ''] = digest.split(':')
  return algorithm === 'sha256' ? Number.parseInt(hex.slice(0, 8), 16) / 2 ** 32 : 1
}
