import { PutBucketVersioningCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { request } from 'node:http'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { bootSectorDisk } from '../fixtures/boot-sector.ts'
import { startMinio } from '../fixtures/minio.ts'
import { s3Credentials, type S3Server } from '../fixtures/s3-server.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { startVersitygw } from '../fixtures/versitygw.ts'
import { startWebServer } from '../fixtures/web-server.ts'
import { dvcr } from './dvcr-command.ts'
import { createImportsApi } from './imports-api.ts'
import { printedImport } from './printed-import.ts'

const disk = bootSectorDisk({ size: 4 * 1024 * 1024 })
const key = 'images/disk +ü%41.raw'
const { AWS_ACCESS_KEY_ID: user, AWS_SECRET_ACCESS_KEY: password } = s3Credentials
const credentials = { user, password }
const owned = new AsyncDisposableStack()
let folder: string
let server: RunningServer

beforeAll(async () => {
  folder = owned.use(await createTempFolder()).path
  // Credentials of the server's own are for its own data: no import has them.
  server = owned.use(await startDvcr({ data: join(folder, 'data'), env: s3Credentials }))
  await writeFile(join(folder, 'secret'), password)
})
afterAll(() => owned.disposeAsync())

function connect({ url }: S3Server): S3Client & Disposable {
  const client = new S3Client({
    endpoint: url,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId: user, secretAccessKey: password },
  })
  return Object.assign(client, { [Symbol.dispose]: () => client.destroy() })
}

async function putDisk(s3: S3Server): Promise<void> {
  using client = connect(s3)
  await client.send(new PutObjectCommand({ Bucket: s3.bucket, Key: key, Body: disk }))
}

describe.each([
  ['versitygw', startVersitygw],
  ['MinIO', startMinio],
])('an object of %s', (_name, start) => {
  it('is imported with the credentials of the caller, and with no other ones', async () => {
    await using s3 = await start()
    await putDisk(s3)
    const imports = createImportsApi(server.url)
    const wanted = {
      source: `s3://${s3.bucket}/${key}`,
      name: 'bucket',
      s3Endpoint: s3.url,
      replace: true,
    }
    const record = await imports.run({ ...wanted, credentials })
    expect(record).toMatchObject({
      state: 'succeeded',
      source: wanted.source,
      image: { virtualSize: disk.length, sourceBytes: disk.length },
    })
    const denied = { state: 'failed', error: { code: 'SOURCE_DENIED' } }
    expect(await imports.run(wanted)).toMatchObject(denied)
    const wrong = { user, password: 'wrong' }
    expect(await imports.run({ ...wanted, credentials: wrong })).toMatchObject(denied)
    const missing = { ...wanted, source: `${wanted.source}x`, credentials }
    expect((await imports.run(missing)).error?.code).toBe('SOURCE_NOT_FOUND')
    expect(server.output()).not.toContain(password)

    const flags = [
      '--s3-endpoint',
      s3.url,
      '--user',
      user,
      '--password-file',
      join(folder, 'secret'),
    ]
    const own = ['--data', join(folder, 'own'), '--json']
    const command = ['import', wanted.source, 'bucket:1', '--replace', ...flags, ...own]
    expect(printedImport(await dvcr(command)).digest).toBe(record.image?.digest)
  })

  it('goes on where its connection breaks', async () => {
    await using s3 = await start()
    await putDisk(s3)
    const { port } = new URL(s3.url)
    await using between = await startWebServer(({ url, headers }, response, count) => {
      // The signature is for the address that was asked.
      const onward = request({ host: '127.0.0.1', port, path: url, headers }, (answer) => {
        response.writeHead(answer.statusCode ?? 500, answer.headers)
        if (count > 1) return void answer.pipe(response)
        answer.once('data', (chunk: Buffer) => {
          answer.destroy()
          response.write(chunk, () => response.destroy())
        })
      })
      onward.end()
    })
    const record = await createImportsApi(server.url).run({
      source: `s3://${s3.bucket}/${key}`,
      name: 'broken',
      replace: true,
      s3Endpoint: between.origin,
      credentials,
    })
    expect(record).toMatchObject({ state: 'succeeded', attempts: 1 })
    expect(between.requests[1]?.headers.range).toMatch(/^bytes=\d+-$/)
  })
})

it('an endpoint is judged by the policy', async () => {
  const args = ['--import-policy', 'restricted,+127.0.0.1']
  await using ruled = await startDvcr({ data: join(folder, 'ruled'), args })
  for (const host of ['10.0.0.1', '169.254.169.254']) {
    const source = { source: 's3://bucket/key', name: 'a', s3Endpoint: `http://${host}:1` }
    const answer = await createImportsApi(ruled.url).post(source)
    expect(await answer.text()).toContain('SOURCE_FORBIDDEN')
  }
})

it('a version of an object is imported though there is a newer one', async () => {
  await using s3 = await startMinio()
  using client = connect(s3)
  const status = { Status: 'Enabled' } as const
  const bucket = { Bucket: s3.bucket }
  await client.send(new PutBucketVersioningCommand({ ...bucket, VersioningConfiguration: status }))
  const older = await client.send(new PutObjectCommand({ ...bucket, Key: key, Body: disk }))
  await client.send(new PutObjectCommand({ ...bucket, Key: key, Body: 'no disk' }))
  const record = await createImportsApi(server.url).run({
    source: `s3://${s3.bucket}/${key}?versionId=${older.VersionId}`,
    name: 'versioned',
    s3Endpoint: s3.url,
    credentials,
  })
  expect(record).toMatchObject({ state: 'succeeded', image: { virtualSize: disk.length } })
})
