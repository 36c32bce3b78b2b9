import { randomUUID } from 'node:crypto'
import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import { CodedError } from '../../core/errors.ts'
import type { ObjectStore } from '../../core/object-store.ts'
import type { S3 } from './s3-client.ts'
import { abortUpload, loadEtags } from './s3-complete.ts'
import { statusOf } from './s3-errors.ts'
import { createS3Objects, type DeleteAbilities } from './s3-objects.ts'
import type { S3Reader } from './s3-read.ts'

/** Objects of probes are below it. */
export const probeFolder = 'probe/'

/** S3 refuses signatures that are 15 minutes off; half of the way there is time to say so. */
const mostSkewMs = 5 * 60 * 1000
const racingWriters = 20
/** Parts of unlike lengths: there are servers that demand equal ones. */
const probedParts = [5 * 1024 * 1024, 6 * 1024 * 1024, 1000]

/**
 * Tries all that the store relies on. Throws SETTING_INVALID, naming what is missing and why it
 * matters, where data would not be safe. With `isNew` also what takes ten MiB of traffic.
 */
export async function probeS3(
  s3: S3,
  { reader, isNew }: { readonly reader: S3Reader; readonly isNew: boolean },
): Promise<DeleteAbilities> {
  const objects = createS3Objects(s3, { conditionalDelete: false, takesIfMatch: false })
  const folder = `${probeFolder}${randomUUID()}/`
  try {
    await probeClock(reader)
    await probeConditions(objects, folder)
    await probeLists(objects, folder)
    await probeParts(s3, { reader, key: `${folder}parts`, sizes: isNew ? probedParts : [1000] })
    return await probeDelete(s3, objects, `${folder}delete`)
  } finally {
    for (const key of await objects.list(folder, {}).catch(() => [])) await objects.delete(key)
  }
}

function requireThat(holds: boolean, refusal: string): asserts holds {
  if (!holds) {
    throw new CodedError('SETTING_INVALID', `cannot keep data on this S3 storage: ${refusal}`)
  }
}

async function probeClock(reader: S3Reader): Promise<void> {
  const [theirs, ours] = [await reader.now(), Date.now()]
  const times = (): string =>
    `${new Date(ours).toISOString()} here, ${new Date(theirs).toISOString()} there`
  requireThat(
    !(Math.abs(theirs - ours) > mostSkewMs),
    Number.isNaN(theirs) ? '' : `the clocks differ (${times()}); set them right`,
  )
}

async function probeConditions(objects: ObjectStore, folder: string): Promise<void> {
  const needed = 'processes would overwrite what others record; use a server that has it'
  const key = `${folder}race`
  const texts = Array.from({ length: racingWriters }, (_, at) => Buffer.from(`writer ${at}`))
  const etags = await Promise.all(texts.map((text) => objects.put(key, text, 'ifAbsent')))
  const winners = texts.filter((_, at) => etags[at] !== undefined)
  const [winner] = winners
  requireThat(
    winner !== undefined && winners.length === 1,
    `${winners.length} of ${racingWriters} writers at once succeeded with 'If-None-Match: *'; ${needed}`,
  )
  const stored = await objects.get(key)
  requireThat(
    stored !== undefined && winner.equals(stored.bytes),
    'what was written last is not what is read at once',
  )
  const changed = await objects.put(key, Buffer.from('changed'), { ifMatch: stored.etag })
  const stale = await objects.put(key, Buffer.from('stale'), { ifMatch: stored.etag })
  const absent = await objects.put(`${folder}none`, Buffer.from(''), { ifMatch: stored.etag })
  requireThat(
    changed !== undefined && stale === undefined && absent === undefined,
    `it does not heed 'If-Match' on writes; ${needed}`,
  )
  requireThat(
    changed !== stored.etag && (await objects.get(key))?.etag === changed,
    'its ETags do not follow what is written',
  )
}

async function probeLists(objects: ObjectStore, folder: string): Promise<void> {
  const names = ['A', 'a-b', 'a.c/x', 'a/b', 'a0', 'b', 'c']
  const keys = names.map((name) => `${folder}list/${name}`)
  for (const key of keys.toReversed()) await objects.put(key, Buffer.from('x'), 'always')
  await objects.delete(`${folder}list/c`)
  const expected = keys.slice(0, -1)
  const found = await objects.list(`${folder}list/`, {})
  const page = await objects.list(`${folder}list/`, { after: expected[1], limit: 2 })
  const folders = await objects.listFolders(`${folder}list/`)
  requireThat(
    found.join() === expected.join() && page.join() === expected.slice(2, 4).join(),
    `its listings are not in byte order or not up to date (${found.length} of ${expected.length} keys)`,
  )
  requireThat(folders.join() === 'a,a.c' || folders.join() === 'a.c,a', 'it lists no folders')
}

async function probeParts(
  s3: S3,
  options: { readonly reader: S3Reader; readonly key: string; readonly sizes: readonly number[] },
): Promise<void> {
  const { reader, key, sizes } = options
  const place = s3.place(key)
  const { UploadId: uploadId = '' } = await s3.call(`begin ${key}`, (attempt) =>
    s3.client.send(new CreateMultipartUploadCommand(place), attempt),
  )
  const upload = { ...place, UploadId: uploadId }
  try {
    for (const [at, size] of sizes.entries()) {
      const part = { ...upload, PartNumber: at + 1, Body: Buffer.alloc(size, at) }
      await s3.call(`store a part of ${key}`, (attempt) =>
        s3.client.send(new UploadPartCommand(part), attempt),
      )
    }
    const bytes = sizes.reduce((sum, size) => sum + size, 0)
    const segment = { next: 1, runs: [[1, sizes.length]] satisfies [number, number][], bytes }
    const listed = await loadEtags(s3, { key, uploadId }, segment, new Map())
    requireThat(listed !== undefined, 'it does not list the parts of an upload on its way')
    const Parts = [...listed].map(([PartNumber, ETag]) => ({ PartNumber, ETag }))
    const command = new CompleteMultipartUploadCommand({ ...upload, MultipartUpload: { Parts } })
    await s3.call(`complete ${key}`, async (attempt) => {
      try {
        await s3.client.send(command, attempt)
      } catch (error) {
        requireThat(statusOf(error) !== 400, `it refuses parts of unlike lengths: ${String(error)}`)
        throw error
      }
    })
    const chunks: Buffer[] = []
    const tail = { start: bytes - 900, end: bytes }
    const { signal } = new AbortController()
    for await (const chunk of reader.read(key, tail, signal)) chunks.push(Buffer.from(chunk))
    const expected = Buffer.alloc(900, sizes.length - 1)
    requireThat(Buffer.concat(chunks).equals(expected), 'a range of an object has other bytes')
  } finally {
    await abortUpload(s3, { key, uploadId })
  }
}

/**
 * Some servers ignore the condition of a deletion. Others heed it and still delete what is written
 * at the same moment, which no probe can tell for sure: only AWS is taken at its word.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-deletes.html
 */
async function probeDelete(s3: S3, objects: ObjectStore, key: string): Promise<DeleteAbilities> {
  await objects.put(key, Buffer.from('kept'), 'always')
  const status = await s3.call(`delete ${key}`, async (attempt) => {
    const command = { ...s3.place(key), IfMatch: '"00000000000000000000000000000000"' }
    try {
      await s3.client.send(new DeleteObjectCommand(command), attempt)
      return 204
    } catch (error) {
      if ([400, 412, 501].includes(statusOf(error))) return statusOf(error)
      throw error
    }
  })
  return {
    conditionalDelete: status === 412 && s3.isAws,
    takesIfMatch: status === 412 || status === 204,
  }
}
