import { randomBytes, randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { CodedError } from '../../core/errors.ts'
import type { DataStore, DataWriter, StoredData } from '../../registry/data-store.ts'
import type { Checkpoint } from '../../registry/records.ts'
import { readCheckpoint } from '../../registry/stores/s3-checkpoint.ts'
import { choosePartBytes, s3Limits, type S3Limits } from '../../registry/stores/s3-limits.ts'
import { collect, noise } from '../fixtures/chunks.ts'
import { openTempS3Store, type S3Server } from '../fixtures/s3-server.ts'
import { startVersitygw } from '../fixtures/versitygw.ts'
import { isNightly } from './nightly.ts'
import { createSeededRandom } from './seeded-random.ts'

const mebibyte = 1024 * 1024
const gibibyte = 1024 * mebibyte

let server: S3Server
beforeAll(async () => {
  server = await startVersitygw()
})
afterAll(() => server[Symbol.asyncDispose]())

const openStore = (limits: Partial<S3Limits>) =>
  openTempS3Store(server, { limits: { ...s3Limits, ...limits } })

const smallParts = { partBytes: 5 * mebibyte, mostPartBytes: 5 * mebibyte }

/** What the registry keeps of an upload: whoever takes over is the only one that may record. */
function createSession() {
  let checkpoint: Checkpoint = { offset: 0 }
  let epoch = 0
  return {
    takeOver() {
      const mine = ++epoch
      return {
        from: checkpoint,
        algorithm: 'sha256' as const,
        async record(next: Checkpoint): Promise<void> {
          if (mine !== epoch) throw new CodedError('RANGE_INVALID', 'taken over')
          checkpoint = JSON.parse(JSON.stringify(next))
        },
      }
    },
  }
}

async function readAll(data: DataStore, where: StoredData, size: number): Promise<Buffer> {
  return collect(data.read(where, { start: 0, end: size }, new AbortController().signal))
}

/** True where it was done; a writer that was taken over may be refused. */
async function attempt(action: () => Promise<unknown>): Promise<boolean> {
  try {
    await action()
    return true
  } catch (error) {
    if (error instanceof CodedError && error.code === 'RANGE_INVALID') return false
    throw error
  }
}

describe('uploads to S3 that are taken over', () => {
  it('finish with the bytes of the newest writer, whatever the older ones still send', async () => {
    const seeds = Array.from({ length: isNightly ? 40 : 2 }, (_, seed) => seed)
    for (const seed of seeds) {
      const random = createSeededRandom(seed)
      const pick = (most: number): number => Math.floor(random() * most)
      await using store = await openStore({ ...smallParts, mostParts: 3 + pick(12) })
      const bytes = noise(26 * mebibyte + pick(5 * mebibyte))
      const session = createSession()
      const uuid = randomUUID()
      let options = session.takeOver()
      let newest = await store.data.write(uuid, options)
      const older: DataWriter[] = []
      while (newest.end < bytes.length) {
        const step = random()
        if (step < 0.6)
          await newest.write(bytes.subarray(newest.end, newest.end + pick(4 * mebibyte)))
        else if (step < 0.75) await options.record(await newest.checkpoint())
        else {
          older.push(newest)
          options = session.takeOver()
          newest = await store.data.write(uuid, options)
        }
        // They send other bytes than the newest, to the same places if they could.
        for (const writer of older) {
          await attempt(() => writer.write(randomBytes(pick(3 * mebibyte))))
          if (random() < 0.2) await attempt(() => writer.checkpoint())
        }
      }
      const finished = await newest.finish(digestOf(bytes))
      await options.record(finished)
      for (const writer of older) await attempt(() => writer.write(randomBytes(6 * mebibyte)))
      const where = await store.data.complete(uuid, finished)
      for (const writer of [...older, newest]) await writer[Symbol.asyncDispose]()
      const read = await readAll(store.data, where ?? { data: '' }, bytes.length)
      expect({ seed, isSame: read.equals(bytes) }).toEqual({ seed, isSame: true })
    }
  })

  it('are not what an older writer finishes with other bytes', async () => {
    await using store = await openStore({})
    for (const size of [1000, 21 * mebibyte]) {
      const [good, bad] = [noise(size), randomBytes(size)]
      const session = createSession()
      const uuid = randomUUID()
      await using older = await store.data.write(uuid, session.takeOver())
      await attempt(() => older.write(bad))
      const options = session.takeOver()
      await using newest = await store.data.write(uuid, options)
      await newest.write(good)
      await attempt(() => older.finish(digestOf(bad)))
      const finished = await newest.finish(digestOf(good))
      await attempt(() => older.finish(digestOf(bad, 'sha512')))
      const where = await store.data.complete(uuid, finished)
      expect((await readAll(store.data, where ?? { data: '' }, size)).equals(good)).toBe(true)
    }
  })
})

describe('objects of an upload to S3', () => {
  it('are several where one is too small, and read as one', async () => {
    await using store = await openStore({ ...smallParts, mostParts: 2 })
    const bytes = noise(34 * mebibyte + 99)
    const uuid = randomUUID()
    const options = createSession().takeOver()
    let checkpoint: Checkpoint
    {
      await using writer = await store.data.write(uuid, options)
      await writer.write(bytes.subarray(0, 23 * mebibyte))
      checkpoint = await writer.checkpoint()
    }
    await using writer = await store.data.write(uuid, { ...options, from: checkpoint })
    await writer.write(bytes.subarray(writer.end))
    const where = await store.data.complete(uuid, await writer.finish(digestOf(bytes)))
    expect(where?.segments?.length).toBeGreaterThanOrEqual(4)
    expect(where?.segments?.reduce((sum, length) => sum + length, 0)).toBe(bytes.length)
    const { signal } = new AbortController()
    const random = createSeededRandom(7)
    for (let round = 0; round < 30; round++) {
      const start = Math.floor(random() * bytes.length)
      const end = start + Math.floor(random() * (bytes.length - start))
      const read = await collect(store.data.read(where ?? { data: '' }, { start, end }, signal))
      expect(read.equals(bytes.subarray(start, end))).toBe(true)
    }
    const options60 = { lifetimeS: 60, contentType: 'text/plain' }
    expect(await store.data.redirect(where ?? { data: '' }, options60)).toBeUndefined()
    expect(await store.data.delete({ data: uuid, ...where })).toBe(true)
    await expect(
      collect(store.data.read({ data: `${uuid}.1` }, { start: 0, end: 1 }, signal)),
    ).rejects.toThrow('missing')
  })

  it('take checkpoints of a few hundred bytes, however many parts there are', async () => {
    await using store = await openStore(smallParts)
    const writer = await store.data.write(randomUUID(), createSession().takeOver())
    for (let round = 0; round < 10; round++) await writer.write(noise(6 * mebibyte))
    const checkpoint = await writer.checkpoint()
    await writer[Symbol.asyncDispose]()
    expect(readCheckpoint(checkpoint).segments[0]?.bytes).toBeGreaterThan(50 * mebibyte)
    expect(JSON.stringify(checkpoint).length).toBeLessThan(1000)
    await store.data.delete({ data: randomUUID(), checkpoint })
  })

  it('have a URL that gives them to anyone, as what it was asked for', async () => {
    await using store = await openStore({})
    const bytes = noise(100_000)
    const uuid = randomUUID()
    await using writer = await store.data.write(uuid, createSession().takeOver())
    await writer.write(bytes)
    const where = await store.data.complete(uuid, await writer.finish(digestOf(bytes)))
    const options = { lifetimeS: 60, contentType: 'application/octet-stream' }
    const url = await store.data.redirect(where ?? { data: '' }, options)
    const response = await fetch(url ?? '', { headers: { range: 'bytes=10-99' } })
    expect(response.status).toBe(206)
    expect(response.headers.get('content-type')).toBe('application/octet-stream')
    const body = Buffer.from(await response.arrayBuffer())
    expect(body.equals(bytes.subarray(10, 100))).toBe(true)
  })

  it('are one up to 200 GiB where the length is known, of the usual parts where it is not', () => {
    const { partBytes, mostPartBytes, mostParts } = s3Limits
    expect(choosePartBytes(0, s3Limits)).toBe(partBytes)
    for (const size of [1, 100 * gibibyte, 150 * gibibyte, 200 * gibibyte]) {
      const chosen = choosePartBytes(size, s3Limits)
      expect(chosen).toBeLessThanOrEqual(mostPartBytes)
      expect(size / chosen).toBeLessThan(mostParts)
    }
    expect(choosePartBytes(3 * 1024 * gibibyte, s3Limits)).toBe(partBytes)
  })
})

describe('the memory of uploads to S3', () => {
  const budget = { budgetBytes: 16 * mebibyte }

  it('is enough for many that are slow, and for one more, whoever stands still', async () => {
    await using store = await openStore(budget)
    const count = isNightly ? 100 : 30
    const bytes = noise(6 * mebibyte)
    const all = await Promise.all(
      Array.from({ length: count }, async () => {
        const uuid = randomUUID()
        return { uuid, writer: await store.data.write(uuid, createSession().takeOver()) }
      }),
    )
    // Each begins; together they have taken several times the memory there is.
    await Promise.all(all.map(({ writer }) => writer.write(bytes.subarray(0, 2_000_000))))
    const quick = await store.data.write(randomUUID(), createSession().takeOver())
    await quick.write(noise(40 * mebibyte))
    await quick.checkpoint()
    await quick[Symbol.asyncDispose]()
    // They go on in small steps, and all of them end.
    for (let at = 2_000_000; at < bytes.length; at += 1_000_000) {
      const step = bytes.subarray(at, at + 1_000_000)
      await Promise.all(all.map(({ writer }) => writer.write(step)))
    }
    const digest = digestOf(bytes)
    const stored = await Promise.all(
      all.map(async ({ uuid, writer }) => {
        const where = await store.data.complete(uuid, await writer.finish(digest))
        await writer[Symbol.asyncDispose]()
        const read = await readAll(store.data, where ?? { data: '' }, bytes.length)
        return read.equals(bytes)
      }),
    )
    expect(stored).toEqual(Array.from({ length: count }, () => true))
  })

  it('is given back by an upload that is let go of', async () => {
    await using store = await openStore(budget)
    for (let round = 0; round < 12; round++) {
      const writer = await store.data.write(randomUUID(), createSession().takeOver())
      await writer.write(noise(4 * mebibyte))
      await writer[Symbol.asyncDispose]()
    }
    const writer = await store.data.write(randomUUID(), createSession().takeOver())
    await writer.write(noise(30 * mebibyte))
    expect((await writer.checkpoint()).offset).toBe(30 * mebibyte)
    await writer[Symbol.asyncDispose]()
  })
})
