import { randomFillSync } from 'node:crypto'
import * as fc from 'fast-check'
import { afterAll, expect, test } from 'vitest'
import { batchBytes, clusterBytes } from './cluster-batch.ts'
import { createClusterPool } from './cluster-pool.ts'
import type { EncoderState } from './encoder-state.ts'
import { encodeQcow2 } from './qcow2-encoder.ts'

const pool = createClusterPool({ threads: 2 })
afterAll(() => pool[Symbol.asyncDispose]())

const { signal } = new AbortController()

/** A state, and the data region as it was written then. */
interface Kept extends EncoderState {
  readonly written: Buffer
}

/** The whole file, and every state on the way; goes on from `past` where there is one. */
async function encode(raw: Buffer, past?: Kept): Promise<{ file: Buffer; states: Kept[] }> {
  const states: Kept[] = []
  const pieces = past ? [past.written] : []
  const records = past ? [past.records] : []
  async function* rest(): AsyncGenerator<Uint8Array> {
    for (let at = past?.position ?? 0; at < raw.length; at += 300_000) {
      yield raw.subarray(at, at + 300_000)
    }
  }
  await using encoded = await encodeQcow2(rest(), {
    write: async (chunk) => void pieces.push(Buffer.from(chunk)),
    maxVirtualSize: 2 ** 40,
    spillFolder: '/nonexistent',
    signal,
    pool,
    from: past,
    checkpoints: {
      isDue: (bytes) => bytes >= batchBytes,
      async save(state) {
        records.push(state.records)
        states.push({ ...state, records: Buffer.concat(records), written: Buffer.concat(pieces) })
      },
    },
  })
  const head: Buffer[] = []
  for await (const chunk of encoded.metadata()) head.push(Buffer.from(chunk))
  return { file: Buffer.concat([...head, ...pieces, Buffer.from(encoded.contentDigest)]), states }
}

/** Clusters of zeros (0), of text (1 to 200: the more, the longer the frame) and of noise. */
function diskOf(clusters: readonly number[]): Buffer {
  const disk = Buffer.alloc(clusters.length * clusterBytes + 512)
  for (const [index, kind] of clusters.entries()) {
    const cluster = disk.subarray(index * clusterBytes, (index + 1) * clusterBytes)
    if (kind > 0) randomFillSync(cluster, 0, Math.min(kind * 320, clusterBytes))
  }
  return disk
}

const cluster = fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 220 }), fc.constant(220))

test('an encoder that goes on from any of its states writes the same file', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(cluster, { minLength: 200, maxLength: 500 }), async (clusters) => {
      const disk = diskOf(clusters)
      const whole = await encode(disk)
      expect(whole.states.length).toBeGreaterThan(1)
      for (const state of whole.states) {
        const resumed = await encode(disk, state)
        expect(resumed.file.equals(whole.file)).toBe(true)
        // What the second one keeps can be gone on from too.
        const again = await encode(disk, resumed.states.at(-1) ?? state)
        expect(again.file.equals(whole.file)).toBe(true)
      }
    }),
    { numRuns: 6 },
  )
}, 120_000)

test('a long run of zeros is not read again', async () => {
  const disk = Buffer.alloc(10 * batchBytes)
  disk[0] = 1
  const { states } = await encode(disk)
  expect(states.at(-1)?.position).toBeGreaterThanOrEqual(9 * batchBytes)
})

test('a damaged state is refused, whatever byte of its lengths it is', async () => {
  const disk = diskOf(Array.from({ length: 200 }, () => 100))
  const state = (await encode(disk)).states.at(-1)
  if (!state) throw new Error('no state was kept')
  const damages: Partial<Kept>[] = [
    { staged: state.staged.subarray(1) },
    { records: state.records.subarray(1) },
    { records: Buffer.concat([state.records, state.records]) },
    { records: Buffer.from(state.records).fill(0xff, 8, 12) },
  ]
  for (const damage of damages) {
    await expect(encode(disk, { ...state, ...damage })).rejects.toMatchObject({ code: 'UNKNOWN' })
  }
})
