import { randomUUID } from 'node:crypto'
import { inspect } from 'node:util'
import {
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  ListPartsCommand,
  S3Client,
} from '@aws-sdk/client-s3'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { CodedError } from '../../core/errors.ts'
import type { DataStore, Storage, WriteOptions } from '../../registry/data-store.ts'
import type { Checkpoint } from '../../registry/records.ts'
import { s3Limits } from '../../registry/stores/s3-limits.ts'
import { noise } from '../fixtures/chunks.ts'
import { faults, startFaultyS3, type FaultyS3 } from '../fixtures/faulty-s3.ts'
import { openTempS3Store, type S3Server } from '../fixtures/s3-server.ts'
import { startVersitygw } from '../fixtures/versitygw.ts'
import { isNightly } from './nightly.ts'
import { createSeededRandom } from './seeded-random.ts'

const mebibyte = 1024 * 1024
/** Small parts, so that little data takes many requests; impatient, so that hanging is short. */
const options = {
  limits: { ...s3Limits, partBytes: 5 * mebibyte, mostPartBytes: 5 * mebibyte },
  patience: {
    idleMs: 500,
    completingMs: 1000,
    givingUpMs: 5_000,
    retryDelaysMs: [5, 10, 20, 40, 80, 160, 320],
  },
}

let server: S3Server
let proxy: FaultyS3
beforeAll(async () => {
  server = await startVersitygw()
  proxy = await startFaultyS3(server.url)
})
afterAll(async () => {
  await proxy[Symbol.asyncDispose]()
  await server[Symbol.asyncDispose]()
})

const bytes = noise(16 * mebibyte + 12_345)
const middle = 7 * mebibyte + 77

async function openStore(): Promise<Storage> {
  proxy.plan(() => undefined)
  const { bucket } = server
  return openTempS3Store({ url: proxy.url, bucket }, options)
}

/** All kinds of requests: two writers with a checkpoint and a tail between, a read, records. */
async function useData(data: DataStore, uuid: string): Promise<void> {
  const write = (from?: Checkpoint): WriteOptions => ({
    algorithm: 'sha256',
    record: async () => {},
    from,
  })
  let checkpoint: Checkpoint
  {
    await using writer = await data.write(uuid, write())
    await writer.write(bytes.subarray(0, middle))
    checkpoint = await writer.checkpoint()
  }
  await using writer = await data.write(uuid, write(checkpoint))
  await writer.write(bytes.subarray(middle))
  const finished = await writer.finish(digestOf(bytes))
  const where = await data.complete(uuid, finished)
  expect(await readAll(data, uuid)).toBe(digestOf(bytes))
  expect(await data.delete({ data: uuid, ...where, checkpoint: finished })).toBe(true)
}

async function readAll(data: DataStore, uuid: string): Promise<string> {
  const chunks: Buffer[] = []
  const range = { start: 0, end: bytes.length }
  for await (const chunk of data.read({ data: uuid }, range, new AbortController().signal)) {
    chunks.push(Buffer.from(chunk))
  }
  return digestOf(Buffer.concat(chunks))
}

async function useObjects({ objects }: Storage): Promise<void> {
  const key = `v1/${randomUUID()}`
  const text = (): Uint8Array => Buffer.from(randomUUID())
  const first = await objects.put(key, text(), 'ifAbsent')
  expect(first).toBeDefined()
  expect(await objects.put(key, text(), 'ifAbsent')).toBeUndefined()
  const second = await objects.put(key, text(), { ifMatch: first ?? '' })
  expect(second).toBeDefined()
  expect(await objects.put(key, text(), { ifMatch: first ?? '' })).toBeUndefined()
  expect((await objects.get(key))?.etag).toBe(second)
  expect(await objects.list('v1/', {})).toContain(key)
  expect(await objects.delete(key, { ifMatch: first ?? '' })).toBe(false)
  expect(await objects.delete(key, { ifMatch: second ?? '' })).toBe(true)
  expect(await objects.get(key)).toBeUndefined()
}

/**
 * Keys of objects and of uploads with parts; asked past the proxy. An upload without parts may be
 * left where the answer to its beginning was lost: it takes no room.
 */
async function leftovers(uuid: string): Promise<string[]> {
  const { url, bucket: Bucket } = server
  const client = new S3Client({ endpoint: url, region: 'us-east-1', forcePathStyle: true })
  const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket }))
  const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket }))
  const found = Contents.map(({ Key = '' }) => Key)
  for (const { Key = '', UploadId } of Uploads) {
    const { Parts = [] } = await client.send(new ListPartsCommand({ Bucket, Key, UploadId }))
    if (Parts.length > 0) found.push(Key)
  }
  client.destroy()
  return found.filter((key) => key.includes(uuid))
}

describe('S3 that fails once', () => {
  /**
   * Every kind of fault at every request that `use` makes; by day a sample of them. Answers what
   * went wrong.
   */
  async function failOnce(use: (uuid: string) => Promise<void>): Promise<string[]> {
    proxy.plan(() => undefined)
    await use(randomUUID())
    const count = proxy.requests.length
    const cases = faults.flatMap((fault) =>
      Array.from({ length: count }, (_, at) => ({ fault, at })),
    )
    const random = createSeededRandom(Date.now())
    const wrong: string[] = []
    for (const { fault, at } of cases) {
      if (!isNightly && random() > 12 / cases.length) continue
      const uuid = randomUUID()
      proxy.plan(({ index }) => (index === at ? fault : undefined))
      const failure = await use(uuid).then(
        () => undefined,
        (error: unknown) => inspect(error),
      )
      const left = await leftovers(uuid)
      if (failure !== undefined || left.length > 0) {
        wrong.push(`${fault} of ${at} ${proxy.requests[at]}: ${failure} ${left.join(' ')}`)
      }
    }
    return wrong
  }

  it('keeps and serves data as if it had not', async () => {
    await using store = await openStore()
    expect(await failOnce((uuid) => useData(store.data, uuid))).toEqual([])
  })

  it('keeps records as if it had not', async () => {
    await using store = await openStore()
    expect(await failOnce(() => useObjects(store))).toEqual([])
  })
})

describe('S3 that fails all the time', () => {
  it('never serves wrong bytes, and ends every call with success or a code', async () => {
    await using store = await openStore()
    const seeds = Array.from({ length: isNightly ? 60 : 3 }, (_, at) => at)
    for (const seed of seeds) {
      const random = createSeededRandom(seed)
      const rate = 0.1 + 0.5 * random()
      const uuid = randomUUID()
      proxy.plan(() => (random() < rate ? faults[Math.floor(random() * faults.length)] : undefined))
      const finished = await pushStubbornly(store.data, uuid)
      proxy.plan(() => undefined)
      expect(await readAll(store.data, uuid)).toBe(digestOf(bytes))
      expect(await store.data.delete({ data: uuid, checkpoint: finished })).toBe(true)
      expect({ seed, left: await leftovers(uuid) }).toEqual({ seed, left: [] })
    }
  })

  it('is said to be unavailable, and goes on when it is back', async () => {
    await using store = await openStore()
    const uuid = randomUUID()
    const checkpoints: Checkpoint[] = []
    const record = async (checkpoint: Checkpoint): Promise<void> =>
      void checkpoints.push(checkpoint)
    await using writer = await store.data.write(uuid, { algorithm: 'sha256', record })
    await writer.write(bytes.subarray(0, middle))
    const kept = await writer.checkpoint()
    proxy.plan(() => 'slowDown')
    const rest = async (): Promise<unknown> => {
      await writer.write(bytes.subarray(middle))
      return writer.checkpoint()
    }
    await expect(rest()).rejects.toMatchObject({ code: 'UNAVAILABLE', retryable: true })
    await expect(store.objects.get('v1/a')).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    await expect(readAll(store.data, uuid)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    proxy.plan(() => undefined)
    await writer.rollback(kept)
    await writer.write(bytes.subarray(middle))
    await store.data.complete(uuid, await writer.finish(digestOf(bytes)))
    expect(await readAll(store.data, uuid)).toBe(digestOf(bytes))
  })
})

/** As clients do: after a failure they go on at the last checkpoint, in another process. */
async function pushStubbornly(data: DataStore, uuid: string): Promise<Checkpoint> {
  let last: Checkpoint = { offset: 0 }
  const record = async (checkpoint: Checkpoint): Promise<void> => {
    last = checkpoint
  }
  for (let attempt = 0; attempt < 50; attempt++) {
    try {
      await using writer = await data.write(uuid, { algorithm: 'sha256', record, from: last })
      await writer.write(bytes.subarray(writer.end, middle))
      if (writer.end < middle) last = await writer.checkpoint()
      await writer.write(bytes.subarray(writer.end))
      last = await writer.finish(digestOf(bytes))
      await data.complete(uuid, last)
      return last
    } catch (error) {
      if (!(error instanceof CodedError && error.code === 'UNAVAILABLE')) throw error
    }
  }
  throw new Error('fifty attempts failed')
}
