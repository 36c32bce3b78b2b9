import { randomFillSync } from 'node:crypto'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { bootSectorDisk } from '../fixtures/boot-sector.ts'
import type { S3Server } from '../fixtures/s3-server.ts'
import { startDvcr } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { startVersitygw } from '../fixtures/versitygw.ts'
import { startCountingSource } from './counting-source.ts'
import { createImportsApi } from './imports-api.ts'
import { isNightly } from './nightly.ts'

const MiB = 1024 * 1024
const diskBytes = (isNightly ? 2048 : 320) * MiB
const bytesPerSecond = 60 * MiB

const stack = new AsyncDisposableStack()
let s3: S3Server
let disk: string
beforeAll(async () => {
  s3 = stack.use(await startVersitygw())
  disk = join(stack.use(await createTempFolder()).path, 'disk.raw')
  await using file = await open(disk, 'w')
  const piece = bootSectorDisk({ size: 16 * MiB })
  for (let at = 0; at < diskBytes; at += piece.length) {
    if (at > 0) randomFillSync(piece, 0, 8 * MiB)
    await file.write(piece)
  }
})
afterAll(() => stack.disposeAsync())

const startReplica = () =>
  startDvcr({ data: `s3://${s3.bucket}/imports`, args: ['--s3-endpoint', s3.url] })

it('another replica goes on with the import of one that was killed', async () => {
  await using source = await startCountingSource(disk, { ranges: true, bytesPerSecond })
  await using undisturbed = await startCountingSource(disk, {
    ranges: true,
    bytesPerSecond: Infinity,
  })
  await using first = await startReplica()
  await using second = await startReplica()
  await using third = await startReplica()
  const { id } = await createImportsApi(first.url).create({ source: source.url, name: 'taken' })
  while (source.sentBytes < 0.7 * diskBytes) await sleep(50)
  await first.kill9()

  // Any of those left answers for it, and one of them takes it over within a minute.
  const record = await createImportsApi(second.url).finished(id)
  expect(record.error).toBeUndefined()
  expect(record.attempts).toBe(2)
  const { image } = await createImportsApi(third.url).run({
    source: undisturbed.url,
    name: 'undisturbed',
  })
  expect(record.image?.layerDigest).toBe(image?.layerDigest)
  expect(record.image?.contentDigest).toBe(image?.contentDigest)
  // The way to the checkpoint, what came while it was written, and buffers.
  expect(source.sentBytes - diskBytes).toBeLessThan(192 * MiB)
}, 400_000)
