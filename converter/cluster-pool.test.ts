import { createHash } from 'node:crypto'
import { zstdDecompressSync } from 'node:zlib'
import { expect, test } from 'vitest'
import { batchBytes, clusterBytes, clustersPerBatch } from './cluster-batch.ts'
import { createClusterPool } from './cluster-pool.ts'

const never = new AbortController().signal

/** True where `promise` is settled once everything that can run has run. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  const turn = new Promise((resolve) => setImmediate(resolve, 'pending'))
  return (await Promise.race([promise, turn])) !== 'pending'
}

test('gives every lease a first buffer at once and shares the others', async () => {
  await using pool = createClusterPool({ threads: 1 })
  const greedy = pool.createLease()
  const buffers = [
    await greedy.acquire(never),
    await greedy.acquire(never),
    await greedy.acquire(never),
  ]
  const waiting = greedy.acquire(never)
  expect(await isSettled(waiting)).toBe(false)

  const modest = pool.createLease()
  const first = await modest.acquire(never)
  expect(first.byteLength).toBe(batchBytes)
  const second = modest.acquire(never)
  modest.release(first)
  await second
  expect(await isSettled(waiting)).toBe(false)

  const [released] = buffers
  if (released) greedy.release(released)
  expect((await waiting).byteLength).toBe(batchBytes)
})

test('a wait for a buffer ends with the reason of the signal and leaves no trace', async () => {
  await using pool = createClusterPool({ threads: 1 })
  const lease = pool.createLease()
  const buffers = await Promise.all([1, 2, 3].map(() => lease.acquire(never)))
  const abort = new AbortController()
  const reason = new Error('cancelled')
  const given = lease.acquire(abort.signal)
  const waiting = lease.acquire(never)
  abort.abort(reason)
  await expect(given).rejects.toBe(reason)
  for (const buffer of buffers) lease.release(buffer)
  expect(await isSettled(waiting)).toBe(true)
})

test('hashes a batch and packs its clusters in place', async () => {
  await using pool = createClusterPool({ threads: 1 })
  const buffer = new SharedArrayBuffer(batchBytes)
  const bytes = new Uint8Array(buffer).fill(0xee)
  const size = 3 * clusterBytes + 512
  const isData = new Uint8Array(clustersPerBatch)
  isData.set([0, 1, 0, 1])
  const disk = Buffer.alloc(4 * clusterBytes)
  disk.fill('one', clusterBytes, 2 * clusterBytes)
  disk.fill('two', 3 * clusterBytes, size)
  bytes.set(disk.subarray(clusterBytes, 2 * clusterBytes), clusterBytes)
  bytes.set(disk.subarray(3 * clusterBytes), 3 * clusterBytes)

  const { sizes, digest } = await pool.encode({ buffer, isData, size })
  expect(Buffer.from(digest)).toEqual(createHash('sha256').update(disk.subarray(0, size)).digest())
  const [zero, one = 0, alsoZero, two = 0, ...rest] = sizes
  expect([zero, alsoZero, ...new Set(rest)]).toEqual([0, 0, 0])
  expect(zstdDecompressSync(bytes.subarray(0, one))).toEqual(
    disk.subarray(clusterBytes, 2 * clusterBytes),
  )
  expect(zstdDecompressSync(bytes.subarray(one, one + two))).toEqual(
    disk.subarray(3 * clusterBytes),
  )
})

test('a batch that fails is reported, and its thread goes on', async () => {
  await using pool = createClusterPool({ threads: 1 })
  const isData = new Uint8Array(clustersPerBatch)
  const tooSmall = new SharedArrayBuffer(1)
  isData[1] = 1
  await expect(pool.encode({ buffer: tooSmall, isData, size: batchBytes })).rejects.toThrow(
    'out of bounds',
  )
  const buffer = new SharedArrayBuffer(batchBytes)
  const { sizes } = await pool.encode({ buffer, isData, size: batchBytes })
  expect(sizes[1]).toBeGreaterThan(0)
})
