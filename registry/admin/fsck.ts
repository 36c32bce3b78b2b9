import { setTimeout } from 'node:timers/promises'
import { z } from 'zod'
import { digestOfKey, keys } from '../keys.ts'
import { pointerRecord } from '../records.ts'
import type { CheckParts } from './check-blobs.ts'
import { finding, findingSchema, type Finding } from './findings.ts'
import { fsckStages, type Look } from './fsck-stages.ts'
import { walkKeys } from './keyspace.ts'
import { see } from './see.ts'
import { verifyBlob, type VerifyParts } from './verify-blob.ts'

const fsckReport = z.object({
  startedAt: z.iso.datetime(),
  finishedAt: z.iso.datetime(),
  /** Things that were looked at. */
  looks: z.int(),
  /** Bytes of blobs whose digest was computed. */
  bytes: z.int(),
  errors: z.int(),
  notes: z.int(),
})

/** `progress`, now and then; `finding`, each; `report`, at the end. */
export const fsckEvent = z.union([
  z.object({ progress: z.object({ stage: z.string(), looks: z.int(), bytes: z.int() }) }),
  z.object({ finding: findingSchema }),
  z.object({ report: fsckReport }),
])
export type FsckEvent = z.output<typeof fsckEvent>

export type FsckParts = Omit<CheckParts, 'signal' | 'claim'> & VerifyParts

export interface FsckOptions {
  /** Also reads all bytes of all blobs. */
  readonly dataDigests: boolean
  readonly signal: AbortSignal
  /** A finding is what is still there so many ms later; 3 seconds but for tests. */
  readonly confirmAfterMs?: number
}

interface Doubt {
  readonly due: number
  readonly look: Look
  readonly found: readonly Finding[]
}

const looksAtOnce = 32
const progressEveryMs = 500

/**
 * Looks at everything in a store while it serves, reading only. Things change meanwhile: what looks
 * wrong is looked at again a little later, and is a finding where it still is. Memory grows with
 * the number of data objects, about 200 bytes each.
 */
export async function* fsck(
  parts: FsckParts,
  { dataDigests, signal, confirmAfterMs = 3000 }: FsckOptions,
): AsyncGenerator<FsckEvent, void> {
  const startedAt = new Date().toISOString()
  const counts = { looks: 0, bytes: 0, errors: 0, notes: 0 }
  const doubts: Doubt[] = []
  let saidAt = 0

  function* progress(stage: string): Generator<FsckEvent, void> {
    if (performance.now() - saidAt < progressEveryMs) return
    saidAt = performance.now()
    yield { progress: { stage, looks: counts.looks, bytes: counts.bytes } }
  }

  function doubt(look: Look, found: readonly Finding[]): void {
    if (found.length > 0) doubts.push({ due: Date.now() + confirmAfterMs, look, found })
  }

  async function lookAll(looks: readonly Look[]): Promise<void> {
    for (let at = 0; at < looks.length; at += looksAtOnce) {
      signal.throwIfAborted()
      const some = looks.slice(at, at + looksAtOnce)
      await Promise.all(some.map(async (look) => doubt(look, await look())))
      counts.looks += some.length
    }
  }

  /** Looks again at what is due; with `all` waits until everything is. */
  async function* confirm(all: boolean): AsyncGenerator<FsckEvent, void> {
    for (let next = doubts[0]; next && (all || next.due <= Date.now()); next = doubts[0]) {
      await setTimeout(Math.max(0, next.due - Date.now()), undefined, { signal })
      doubts.shift()
      const { found } = next
      for (const again of await next.look()) {
        if (!found.some(({ kind, key }) => kind === again.kind && key === again.key)) continue
        counts[again.level === 'error' ? 'errors' : 'notes']++
        yield { finding: again }
      }
    }
  }

  async function* digests(): AsyncGenerator<FsckEvent, void> {
    for await (const page of walkKeys(parts.objects, keys.blobs)) {
      for (const key of page) {
        const reading = readDigest(parts, key, signal)
        let next = await reading.next()
        for (; next.done !== true; next = await reading.next()) {
          counts.bytes += next.value
          yield* progress('digests')
        }
        doubt(() => lastOf(readDigest(parts, key, signal)), next.value)
        yield* confirm(false)
      }
    }
  }

  for await (const { name, batches } of fsckStages({ ...parts, signal })) {
    for await (const looks of batches) {
      await lookAll(looks)
      yield* progress(name)
      yield* confirm(false)
    }
  }
  if (dataDigests) yield* digests()
  yield* confirm(true)
  yield { report: { startedAt, finishedAt: new Date().toISOString(), ...counts } }
}

/** Reads a whole blob, saying how many bytes at a time. What is not there is found without it. */
async function* readDigest(
  parts: FsckParts,
  key: string,
  signal: AbortSignal,
): AsyncGenerator<number, Finding[]> {
  const digest = digestOfKey(key)
  const { record } = await see(parts, pointerRecord, key)
  if (!digest || !record || record.state === 'dead') return []
  const verdict = yield* verifyBlob(parts, digest, record, signal)
  if (verdict.kind === 'unreadable') return [finding('data-unreadable', key, verdict.why)]
  if (verdict.kind === 'whole' || verdict.found === undefined) return []
  return [finding('data-differs', key, verdict.why)]
}

async function lastOf<T>(running: AsyncGenerator<unknown, T>): Promise<T> {
  for (;;) {
    const next = await running.next()
    if (next.done === true) return next.value
  }
}
