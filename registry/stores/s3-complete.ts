import { createHash } from 'node:crypto'
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  ListPartsCommand,
  type CompletedPart,
  type ListPartsCommandOutput,
} from '@aws-sdk/client-s3'
import type { SegmentRecord } from './s3-checkpoint.ts'
import type { S3 } from './s3-client.ts'
import { isRefusedCondition, isS3Error, NoAnswerError } from './s3-errors.ts'

/** A multipart upload on its way. */
export interface UploadPlace {
  readonly key: string
  readonly uploadId: string
}

/** Part numbers of a segment, in order. */
function numbersOf({ runs }: SegmentRecord): number[] {
  return runs.flatMap(([first, count]) => Array.from({ length: count }, (_, at) => first + at))
}

/**
 * Etags of the parts of `segment`, from `known` where they all are there, else from S3; `undefined`
 * where the upload is gone, or its parts are not those.
 */
export async function loadEtags(
  s3: S3,
  { key, uploadId }: UploadPlace,
  segment: SegmentRecord,
  known: ReadonlyMap<number, string>,
): Promise<Map<number, string> | undefined> {
  const numbers = numbersOf(segment)
  if (numbers.every((number) => known.has(number))) return new Map(known)
  const listed = new Map<number, { readonly etag: string; readonly bytes: number }>()
  let marker: string | undefined
  do {
    const page: ListPartsCommandOutput | undefined = await listParts(s3, { key, uploadId }, marker)
    if (!page) return undefined
    for (const { PartNumber, ETag = '', Size = 0 } of page.Parts ?? []) {
      if (PartNumber !== undefined) listed.set(PartNumber, { etag: ETag, bytes: Size })
    }
    marker = page.IsTruncated === true ? page.NextPartNumberMarker : undefined
  } while (marker !== undefined)
  let bytes = 0
  const etags = new Map<number, string>()
  for (const number of numbers) {
    const part = listed.get(number)
    if (!part) return undefined
    etags.set(number, part.etag)
    bytes += part.bytes
  }
  return bytes === segment.bytes ? etags : undefined
}

function listParts(
  s3: S3,
  { key, uploadId }: UploadPlace,
  marker: string | undefined,
): Promise<ListPartsCommandOutput | undefined> {
  return s3.call(`list the parts of ${key}`, async (attempt) => {
    const after = marker === undefined ? {} : { PartNumberMarker: marker }
    try {
      const command = { ...s3.place(key), UploadId: uploadId, ...after }
      return await s3.client.send(new ListPartsCommand(command), attempt)
    } catch (error) {
      if (isS3Error(error, 'NoSuchUpload')) return undefined
      throw error
    }
  })
}

/**
 * Makes the object of the parts and answers its etag; `undefined` where the upload or a part is
 * gone (another process may have done it) or an object is there already.
 */
export function completeUpload(
  s3: S3,
  { key, uploadId }: UploadPlace,
  etags: ReadonlyMap<number, string>,
): Promise<string | undefined> {
  const parts = [...etags]
    .sort(([a], [b]) => a - b)
    .map(([number, etag]): CompletedPart => ({ PartNumber: number, ETag: etag }))
  return s3.call(
    `complete ${key}`,
    async (attempt) => {
      const command = new CompleteMultipartUploadCommand({
        ...s3.place(key),
        UploadId: uploadId,
        MultipartUpload: { Parts: parts },
        IfNoneMatch: '*',
      })
      try {
        return (await s3.client.send(command, attempt)).ETag
      } catch (error) {
        const isGone = isS3Error(error, 'NoSuchUpload', 'InvalidPart') || isRefusedCondition(error)
        if (isGone) return undefined
        throw error
      }
    },
    { idleMs: s3.patience.completingMs },
  )
}

/**
 * The etag that S3 gives an object of such parts; `undefined` where it cannot be told.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
 */
export function multipartEtag(etags: Iterable<string>): string | undefined {
  const hash = createHash('md5')
  let count = 0
  for (const etag of etags) {
    const hex = /^"?([0-9a-f]{32})"?$/.exec(etag)?.[1]
    if (hex === undefined) return undefined
    hash.update(hex, 'hex')
    count++
  }
  return `"${hash.digest('hex')}-${count}"`
}

/** Gives up an upload and its parts, also those that just arrive; false where there was none. */
export function abortUpload(s3: S3, { key, uploadId }: UploadPlace): Promise<boolean> {
  let wasThere = false
  const command = { ...s3.place(key), UploadId: uploadId }
  return s3.call(`give up ${key}`, async (attempt) => {
    try {
      await s3.client.send(new AbortMultipartUploadCommand(command), attempt)
      wasThere = true
      await s3.client.send(new ListPartsCommand({ ...command, MaxParts: 1 }), attempt)
    } catch (error) {
      if (isS3Error(error, 'NoSuchUpload')) return wasThere
      throw error
    }
    throw new NoAnswerError('parts still arrive')
  })
}
