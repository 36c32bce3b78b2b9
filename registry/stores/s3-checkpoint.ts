import { z } from 'zod'
import { CodedError } from '../../core/errors.ts'
import { keys } from '../keys.ts'
import type { Checkpoint } from '../records.ts'
import { tailRecord } from './s3-source.ts'

const count = z.int().nonnegative()

/** One object of a blob's bytes: a multipart upload on its way, or stored already. */
export const segmentRecord = z.object({
  uploadId: z.string().optional(),
  /** The first part number that no writer has claimed: whoever goes on begins there. */
  next: z.int().positive(),
  /** Part numbers it is made of, in order: the first of each run, and how many. */
  runs: z.array(z.tuple([z.int().positive(), z.int().positive()])),
  /** Bytes of the blob in it. */
  bytes: count,
  /** Length of the object where it is stored already; what is behind `bytes` is of no use. */
  stored: count.optional(),
  /** Etag that the object will have, where that can be told before. */
  etag: z.string().optional(),
})
export type SegmentRecord = z.output<typeof segmentRecord>

const s3Record = z.object({
  segments: z.array(segmentRecord),
  /** What follows the parts, up to the offset. */
  tails: z.array(tailRecord),
  /** Names of tails that nobody needs once something later is recorded. */
  old: z.array(z.string()),
  /** There may be objects of tails, also such as no checkpoint names. */
  hasTails: z.boolean(),
  /** Of a finished writer: what all bytes together have. */
  digest: z.string().optional(),
})
/** What a checkpoint says of its objects; a few hundred bytes whatever the size. */
export type S3Record = z.output<typeof s3Record>

const nothing: S3Record = { segments: [], tails: [], old: [], hasTails: false }

/** Throws UNKNOWN for a checkpoint of another kind of storage. */
export function readCheckpoint({ offset, s3 }: Checkpoint): S3Record {
  if (s3 === undefined && offset === 0) return nothing
  const parsed = s3Record.safeParse(s3)
  if (parsed.success) return parsed.data
  throw new CodedError('UNKNOWN', `not a checkpoint of an upload to S3: ${parsed.error.message}`)
}

export const segmentKey = (uuid: string, index: number): string =>
  index === 0 ? keys.data(uuid) : `${keys.data(uuid)}.${index}`
