import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import { CodedError } from '../../core/errors.ts'
import type { ObjectStore } from '../../core/object-store.ts'
import { keys } from '../keys.ts'
import { readVersioned, swap } from '../versioned.ts'
import { see } from './see.ts'

/** One pass over all blobs. */
export const scrubPass = z.object({
  startedAt: z.iso.datetime(),
  finishedAt: z.iso.datetime().optional(),
  blobs: z.int(),
  bytes: z.int(),
  /** Taken out of service. */
  damaged: z.int(),
  /** Could not be read, for which the storage is to blame. */
  unreadable: z.int(),
  /** How far it is, between 0 and 1. */
  share: z.number(),
})
export type ScrubPass = z.output<typeof scrubPass>

/** The pass begun last. `holder` works on it until `until`; `after`: the key it is done with. */
const scrubRecord = z.object({
  rev: z.int(),
  holder: z.uuid(),
  until: z.iso.datetime(),
  after: z.string().optional(),
  pass: scrubPass,
})
type ScrubRecord = z.output<typeof scrubRecord>

/** The right to go on with the pass, kept for two minutes without a word. */
export interface ScrubLead {
  /** As it was left. */
  readonly pass: ScrubPass
  readonly after: string | undefined
  /** Records how far it is, every twenty seconds. UNAVAILABLE: another process has taken over. */
  saveNowAndThen(progress: ScrubProgress): Promise<void>
  /** Records how far it is and lets go of it. */
  end(progress: ScrubProgress): Promise<void>
}

export interface ScrubProgress {
  readonly pass: ScrubPass
  readonly after: string | undefined
}

export interface ScrubLeads {
  /** The pass that is not finished, or a new one. UNAVAILABLE where another process has it. */
  take(): Promise<ScrubLead>
  /** The last pass, and whether somebody is at work on it. */
  look(): Promise<{ readonly pass: ScrubPass; readonly isAtWork: boolean } | undefined>
}

const leadMs = 2 * 60_000
const saveEveryMs = 20_000

export function createScrubLeads(objects: ObjectStore): ScrubLeads {
  const holder = randomUUID()

  return {
    async take() {
      for (;;) {
        const found = await readVersioned(objects, scrubRecord, keys.scrub)
        if (found && isAtWork(found.record)) throw busy(found.record)
        const isOpen = found !== undefined && found.record.pass.finishedAt === undefined
        const begun: ScrubRecord = {
          ...(isOpen ? found.record : { pass: newPass() }),
          rev: (found?.record.rev ?? 0) + 1,
          holder,
          until: fromNow(leadMs),
        }
        const taken = await swap(objects, keys.scrub, begun, found)
        if (taken) return createLead(taken)
      }
    },
    async look() {
      const { record } = await see({ objects }, scrubRecord, keys.scrub)
      return record && { pass: record.pass, isAtWork: isAtWork(record) }
    },
  }

  function createLead(taken: { readonly record: ScrubRecord; readonly etag: string }): ScrubLead {
    let current = taken
    let savedAt = performance.now()

    async function save({ pass, after }: ScrubProgress, untilMs: number): Promise<void> {
      const rev = current.record.rev + 1
      const next = { rev, holder, until: fromNow(untilMs), pass, ...(after ? { after } : {}) }
      const written = await swap(objects, keys.scrub, next, current)
      if (!written) throw new CodedError('UNAVAILABLE', 'another process goes on with this scrub')
      current = written
      savedAt = performance.now()
    }

    return {
      pass: taken.record.pass,
      after: taken.record.after,
      async saveNowAndThen(progress) {
        if (performance.now() - savedAt > saveEveryMs) await save(progress, leadMs)
      },
      end: (progress) => save(progress, 0),
    }
  }
}

function busy({ pass }: ScrubRecord): CodedError {
  const done = (pass.share * 100).toFixed(1)
  return new CodedError(
    'UNAVAILABLE',
    `a scrub is at work already, ${done} % done; wait for it, or for two minutes where its process is gone`,
  )
}

export const fromNow = (ms: number): string => new Date(Date.now() + ms).toISOString()

const newPass = (): ScrubPass => ({
  startedAt: fromNow(0),
  blobs: 0,
  bytes: 0,
  damaged: 0,
  unreadable: 0,
  share: 0,
})

function isAtWork({ until, pass }: ScrubRecord): boolean {
  return pass.finishedAt === undefined && Date.parse(until) > Date.now()
}
