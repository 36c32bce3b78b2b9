import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { CreateBucketCommand, PutBucketPolicyCommand, S3Client } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { createS3, patience, type S3Settings } from '../../registry/stores/s3-client.ts'
import { createS3Objects } from '../../registry/stores/s3-objects.ts'
import { openS3Store } from '../../registry/stores/s3.ts'
import { createAuthority } from '../fixtures/certificates.ts'
import { collect, noise } from '../fixtures/chunks.ts'
import { startFaultyS3, type ProxyOptions } from '../fixtures/faulty-s3.ts'
import { freePort } from '../fixtures/ports.ts'
import type { S3Server } from '../fixtures/s3-server.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { startVersitygw } from '../fixtures/versitygw.ts'

const impatient = { patience: { ...patience, idleMs: 2_000, retryDelaysMs: [5, 10] } }
const publicBucket = 'public'

let server: S3Server
beforeAll(async () => {
  server = await startVersitygw()
  const client = new S3Client({ endpoint: server.url, region: 'us-east-1', forcePathStyle: true })
  await client.send(new CreateBucketCommand({ Bucket: publicBucket }))
  const Resource = [`arn:aws:s3:::${publicBucket}`, `arn:aws:s3:::${publicBucket}/*`]
  const Statement = [{ Effect: 'Allow', Principal: '*', Action: ['s3:*'], Resource }]
  const Policy = JSON.stringify({ Version: '2012-10-17', Statement })
  await client.send(new PutBucketPolicyCommand({ Bucket: publicBucket, Policy }))
  client.destroy()
})
afterAll(() => server[Symbol.asyncDispose]())

const settingsOf = (change: Partial<S3Settings>): S3Settings => ({
  endpoint: server.url,
  bucket: server.bucket,
  prefix: randomUUID(),
  ...change,
})

async function open(change: Partial<S3Settings>): Promise<void> {
  const store = await openS3Store(settingsOf(change), impatient)
  await store[Symbol.asyncDispose]()
}

describe('opening a store on S3', () => {
  it('leaves its mark and nothing else, however many open it at once', async () => {
    const settings = settingsOf({})
    const stores = await Promise.all([1, 2, 3, 4, 5].map(() => openS3Store(settings)))
    using s3 = createS3(settings, patience)
    const all = createS3Objects(s3, { conditionalDelete: false, takesIfMatch: false })
    expect(await all.list('', {})).toEqual(['layout.json'])
    for (const store of stores) await store[Symbol.asyncDispose]()
    await open(settings)
  })

  it('refuses credentials that are not valid, and says so', async () => {
    const secret = process.env['AWS_SECRET_ACCESS_KEY']
    process.env['AWS_SECRET_ACCESS_KEY'] = 'another'
    try {
      await expect(open({})).rejects.toMatchObject({
        code: 'SETTING_INVALID',
        message: expect.stringMatching(/SignatureDoesNotMatch.*credentials/),
      })
    } finally {
      process.env['AWS_SECRET_ACCESS_KEY'] = secret
    }
  })

  it('refuses a bucket that does not exist', async () => {
    await expect(open({ bucket: 'nowhere' })).rejects.toMatchObject({
      code: 'SETTING_INVALID',
      message: expect.stringContaining('NoSuchBucket'),
    })
  })

  it('refuses a place that holds something else, or another layout', async () => {
    const settings = settingsOf({})
    using s3 = createS3(settings, patience)
    const objects = createS3Objects(s3, { conditionalDelete: false, takesIfMatch: false })
    await objects.put('holiday/photo.jpg', Buffer.from('?'), 'always')
    await expect(open(settings)).rejects.toMatchObject({
      code: 'LAYOUT_UNKNOWN',
      message: expect.stringContaining('holiday/'),
    })
    await objects.put('layout.json', Buffer.from('{"layout":99}'), 'always')
    await expect(open(settings)).rejects.toMatchObject({
      code: 'LAYOUT_UNKNOWN',
      message: expect.stringContaining('99'),
    })
  })

  it('says that a server does not answer', async () => {
    const endpoint = `http://127.0.0.1:${await freePort()}`
    await expect(open({ endpoint })).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  })

  it('says where a server has no host name per bucket', async () => {
    const endpoint = server.url.replace('127.0.0.1', 'localhost')
    await expect(open({ endpoint, bucket: 'no-such-name.invalid', pathStyle: false }))
      .rejects
      // The name may lead nowhere, or to the server, which then looks for another bucket.
      .toMatchObject({ code: 'SETTING_INVALID' })
  })

  it('speaks TLS with a server whose authority it is told, and with no other', async () => {
    await using folder = await createTempFolder()
    const authority = await createAuthority(folder.path)
    const tls = await authority.issue('storage')
    await using proxy = await startFaultyS3(server.url, { tls })
    await expect(open({ endpoint: proxy.url })).rejects.toMatchObject({
      code: 'SETTING_INVALID',
      message: expect.stringContaining('--s3-ca'),
    })
    const ca = await readFile(authority.ca, 'utf8')
    await using store = await openS3Store(settingsOf({ endpoint: proxy.url, ca }), impatient)
    const bytes = noise(20 * 1024 * 1024)
    const uuid = randomUUID()
    await using writer = await store.data.write(uuid, {
      algorithm: 'sha256',
      record: async () => {},
    })
    await writer.write(bytes)
    await store.data.complete(uuid, await writer.finish(digestOf(bytes)))
    const { signal } = new AbortController()
    const read = store.data.read({ data: uuid }, { start: 0, end: bytes.length }, signal)
    expect(digestOf(await collect(read))).toBe(digestOf(bytes))
  })
})

describe('a server that cannot keep data safely', () => {
  /** Requests without a signature, which may then be changed. */
  const anonymous =
    (dropped: string): NonNullable<ProxyOptions['alterRequest']> =>
    (headers) =>
      Object.fromEntries(
        Object.entries(headers).filter(
          ([name]) => name !== 'authorization' && !name.startsWith('x-amz-') && name !== dropped,
        ),
      )

  it.each(['if-none-match', 'if-match'])('is refused where it ignores %s', async (dropped) => {
    await using proxy = await startFaultyS3(server.url, { alterRequest: anonymous(dropped) })
    await expect(open({ endpoint: proxy.url, bucket: publicBucket })).rejects.toMatchObject({
      code: 'SETTING_INVALID',
      message: expect.stringMatching(new RegExp(dropped, 'i')),
    })
  })

  it('is refused where its clock is wrong, with both times', async () => {
    const date = new Date(Date.now() - 10 * 60 * 1000)
    await using proxy = await startFaultyS3(server.url, {
      alterAnswer: (headers) => ({ ...headers, date: date.toUTCString() }),
    })
    const minute = date.toISOString().slice(0, 16)
    await expect(open({ endpoint: proxy.url })).rejects.toMatchObject({
      code: 'SETTING_INVALID',
      message: expect.stringMatching(new RegExp(`clocks.*here.*${minute}.*there`)),
    })
  })
})
