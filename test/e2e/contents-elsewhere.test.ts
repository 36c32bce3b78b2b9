import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { imageRecordSchema } from '../../importer/images.ts'
import { elfHeader, debianFiles, makeExt, mib } from '../fixtures/made-disks.ts'
import { s3Credentials, type S3Server } from '../fixtures/s3-server.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { startVersitygw } from '../fixtures/versitygw.ts'
import { dvcr } from './dvcr-command.ts'

const owned = new AsyncDisposableStack()
let s3: S3Server
let server: RunningServer
let file: string

beforeAll(async () => {
  const folder = owned.use(await createTempFolder()).path
  s3 = owned.use(await startVersitygw())
  server = owned.use(await startDvcr({ data: join(folder, 'data') }))
  file = join(folder, 'disk')
  const system = { ...debianFiles, 'usr/bin/dash': elfHeader(243, 64, 'little') }
  await writeFile(file, await makeExt(system, '-t ext4', 12 * mib))
})
afterAll(() => owned.disposeAsync())

// As it is, it goes there while it is read, and nothing of it is kept here.
it.each([
  ['a bucket', 'auto'],
  ['a bucket', 'as-is'],
  ['another registry', 'auto'],
  ['another registry', 'as-is'],
] as const)('what is on a disk that goes to %s is told: %s', async (where, mode) => {
  const place = where === 'a bucket' ? ['--data', `s3://${s3.bucket}`] : ['--server', server.url]
  const env = { ...s3Credentials, DVCR_S3_ENDPOINT: s3.url }
  const image = `disk/${mode}:1`
  const imported = await dvcr(['import', file, image, '--store', mode, ...place], { env })
  expect(imported).toMatchObject({ exitCode: 0 })
  const { stdout } = await dvcr(['inspect', image, '--content', '--json', ...place], { env })
  const record = imageRecordSchema.loose().parse(JSON.parse(stdout))
  expect(record).toMatchObject({
    architecture: 'riscv64',
    contents: { partitionTable: 'none', os: { id: 'debian' }, cloudInit: true },
    content: { virtualSize: 12 * mib },
  })
})
