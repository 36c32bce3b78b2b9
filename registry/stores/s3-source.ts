import type { Readable } from 'node:stream'
import {
  HeadObjectCommand,
  ListPartsCommand,
  PutObjectCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import { z } from 'zod'
import { CodedError } from '../../core/errors.ts'
import { keys } from '../keys.ts'
import { RequestBody } from './s3-body.ts'
import type { Attempt, S3 } from './s3-client.ts'
import { isMissing, isRefusedCondition, isS3Error, NoAnswerError } from './s3-errors.ts'
import type { S3Reader } from './s3-read.ts'

/**
 * Bytes that are too few for a part, kept as an object of their own until more come. The name is
 * never used twice: no writer that has been overtaken can change it.
 */
export const tailRecord = z.object({ name: z.string(), bytes: z.int().positive() })
export type Tail = z.output<typeof tailRecord>

/** A run of bytes on its way: tails that are stored already, then memory. */
export interface Source {
  readonly tails: readonly Tail[]
  readonly pieces: readonly Uint8Array[]
  readonly bytes: number
}

/** One part of an unfinished multipart upload. */
export interface PartPlace {
  readonly key: string
  readonly uploadId: string
  readonly number: number
}

/** Sends sources; a `Source` may be sent again until it succeeds. */
export interface Sender {
  /** Resolves to the part's etag. Throws BLOB_UPLOAD_UNKNOWN where the upload is gone. */
  part(place: PartPlace, source: Source, signal: AbortSignal): Promise<string>
  tail(name: string, source: Source, signal: AbortSignal): Promise<void>
  /** An object of its own; false where one is there already. */
  object(key: string, source: Source, signal: AbortSignal): Promise<boolean>
}

export const tailKey = (uuid: string, name: string): string => `${keys.data(uuid)}.${name}`

export function createSender(uuid: string, { s3, reader }: SenderParts): Sender {
  /** A request with the source as its body, which is made again for every attempt. */
  async function sending<T>(
    source: Source,
    attempt: Attempt,
    send: (body: Readable | Uint8Array) => Promise<T>,
  ): Promise<T> {
    // An empty stream would be sent without a length.
    if (source.bytes === 0) return send(new Uint8Array())
    const body = new RequestBody(bodyOf(source, attempt), attempt.fail)
    try {
      return await send(body)
    } finally {
      body.destroy()
    }
  }

  async function* bodyOf({ tails, pieces }: Source, attempt: Attempt) {
    for (const { name, bytes } of tails) {
      const range = { start: 0, end: bytes }
      for await (const chunk of reader.read(tailKey(uuid, name), range, attempt.abortSignal)) {
        attempt.alive()
        yield chunk
      }
    }
    for (const piece of pieces) {
      attempt.alive()
      yield piece
    }
  }

  /** A server that refuses a part may close before it could say why. */
  async function requireUpload({ key, uploadId }: PartPlace, attempt: Attempt): Promise<void> {
    const command = { ...s3.place(key), UploadId: uploadId, MaxParts: 1 }
    await s3.client.send(new ListPartsCommand(command), attempt)
  }

  return {
    part(place, source, signal) {
      const { key, uploadId, number } = place
      const doing = `store part ${number} of ${key}`
      const store = async (attempt: Attempt): Promise<string> => {
        try {
          if (attempt.isRepeat) await requireUpload(place, attempt)
          const { ETag } = await sending(source, attempt, (body) => {
            const part = { UploadId: uploadId, PartNumber: number, ContentLength: source.bytes }
            const command = new UploadPartCommand({ ...s3.place(key), ...part, Body: body })
            return s3.client.send(command, attempt)
          })
          if (ETag === undefined) throw new NoAnswerError(`it gave no ETag for a part of ${key}`)
          return ETag
        } catch (error) {
          throw isS3Error(error, 'NoSuchUpload') ? uploadIsGone(uuid, error) : error
        }
      }
      return s3.call(doing, store, { signal })
    },
    async tail(name, source, signal) {
      await put(tailKey(uuid, name), source, { signal })
    },
    object: (key, source, signal) => put(key, source, { ifNoneMatch: '*', signal }),
  }

  function put(
    key: string,
    source: Source,
    { ifNoneMatch, signal }: { readonly ifNoneMatch?: '*'; readonly signal: AbortSignal },
  ): Promise<boolean> {
    const store = async (attempt: Attempt): Promise<boolean> => {
      try {
        await sending(source, attempt, (body) => {
          const command = new PutObjectCommand({
            ...s3.place(key),
            ContentLength: source.bytes,
            ContentType: 'application/octet-stream',
            Body: body,
            ...(ifNoneMatch === undefined ? {} : { IfNoneMatch: ifNoneMatch }),
          })
          return s3.client.send(command, attempt)
        })
        return true
      } catch (error) {
        if (ifNoneMatch === undefined || !isRefusedCondition(error)) throw error
        return false
      }
    }
    return s3.call(`store ${key}`, store, { signal })
  }
}

export interface SenderParts {
  readonly s3: S3
  readonly reader: S3Reader
}

/** Length and etag of an object; `undefined` where there is none. */
export function statObject(
  s3: S3,
  key: string,
): Promise<{ readonly bytes: number; readonly etag: string } | undefined> {
  return s3.call(`look at ${key}`, async (attempt) => {
    try {
      const found = await s3.client.send(new HeadObjectCommand(s3.place(key)), attempt)
      return { bytes: found.ContentLength ?? 0, etag: found.ETag ?? '' }
    } catch (error) {
      if (isMissing(error)) return undefined
      throw error
    }
  })
}

export function uploadIsGone(uuid: string, cause?: unknown): CodedError {
  return new CodedError(
    'BLOB_UPLOAD_UNKNOWN',
    `the S3 storage has removed the unfinished parts of ${uuid}; start a new upload`,
    { cause },
  )
}
