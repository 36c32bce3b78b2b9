import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type ListObjectsV2CommandOutput,
} from '@aws-sdk/client-s3'
import type { ObjectStore, PutCondition, SmallObject } from '../../core/object-store.ts'
import type { Attempt, S3 } from './s3-client.ts'
import { isMissing, isRefusedCondition, NoAnswerError } from './s3-errors.ts'

/** Most keys of one answer. */
const pageSize = 1000

/** What a storage makes of the condition of a deletion. */
export interface DeleteAbilities {
  /** It is safe against writes at the same moment. */
  readonly conditionalDelete: boolean
  /** It does not refuse the request for it. */
  readonly takesIfMatch: boolean
}

/**
 * Small objects of a bucket. Where the answer to a conditional write was lost and the write that
 * repeats it is refused, what is there tells whether the first one had succeeded: bytes put under a
 * condition must differ from all that others put there (a nonce, a time). A write that succeeded
 * and was at once followed by another's counts as refused, as if the two had come the other way.
 * Two deletions of one version at the same moment may both say that they did it.
 */
export function createS3Objects(
  s3: S3,
  { conditionalDelete, takesIfMatch }: DeleteAbilities,
): ObjectStore {
  async function read(key: string, attempt: Attempt): Promise<SmallObject | undefined> {
    try {
      const found = await s3.client.send(new GetObjectCommand(s3.place(key)), attempt)
      const bytes = await found.Body?.transformToByteArray()
      return { bytes: bytes ?? new Uint8Array(), etag: required(found.ETag, key) }
    } catch (error) {
      if (isMissing(error)) return undefined
      throw error
    }
  }

  async function etagOf(key: string, attempt: Attempt): Promise<string | undefined> {
    try {
      const { ETag } = await s3.client.send(new HeadObjectCommand(s3.place(key)), attempt)
      return required(ETag, key)
    } catch (error) {
      if (isMissing(error)) return undefined
      throw error
    }
  }

  async function write(
    key: string,
    bytes: Uint8Array,
    condition: PutCondition,
    attempt: Attempt,
  ): Promise<string | undefined> {
    const command = new PutObjectCommand({
      ...s3.place(key),
      Body: bytes,
      ContentLength: bytes.length,
      ContentType: 'application/octet-stream',
      ...(condition === 'ifAbsent' ? { IfNoneMatch: '*' } : {}),
      ...(typeof condition === 'object' ? { IfMatch: condition.ifMatch } : {}),
    })
    try {
      const { ETag } = await s3.client.send(command, attempt)
      return required(ETag, key)
    } catch (error) {
      if (condition === 'always' || !isRefusedCondition(error)) throw error
      const found = attempt.isRepeat ? await read(key, attempt) : undefined
      return found && Buffer.compare(found.bytes, bytes) === 0 ? found.etag : undefined
    }
  }

  function remove(key: string, condition?: { readonly ifMatch: string }): Promise<boolean> {
    const ifMatch = condition && takesIfMatch ? { IfMatch: condition.ifMatch } : {}
    let isAsked = false
    return s3.call(`delete ${key}`, async (attempt) => {
      // A deletion answers the same whether or not there was something.
      const etag = await etagOf(key, attempt)
      if (etag === undefined) return isAsked
      if (condition && etag !== condition.ifMatch) return false
      isAsked = true
      try {
        await s3.client.send(new DeleteObjectCommand({ ...s3.place(key), ...ifMatch }), attempt)
        return true
      } catch (error) {
        if (condition && isRefusedCondition(error)) return false
        throw error
      }
    })
  }

  return {
    get: (key) => s3.call(`read ${key}`, (attempt) => read(key, attempt)),
    put: (key, bytes, condition) =>
      s3.call(`store ${key}`, (attempt) => write(key, bytes, condition, attempt)),
    async list(folder, { after, limit = Infinity }) {
      const keys: string[] = []
      if (limit <= 0) return keys
      const pages = listPages(s3, folder, {
        after: after === undefined ? undefined : s3.objectKey(after),
        pageSize: Math.min(limit, pageSize),
      })
      for await (const { Contents = [] } of pages) {
        for (const { Key = '' } of Contents) keys.push(s3.keyOf(Key))
        if (keys.length >= limit) break
      }
      return keys.slice(0, limit)
    },
    async listFolders(folder) {
      const names: string[] = []
      for await (const { CommonPrefixes = [] } of listPages(s3, folder, { delimiter: '/' })) {
        for (const { Prefix = '' } of CommonPrefixes) {
          names.push(s3.keyOf(Prefix).slice(folder.length, -1))
        }
      }
      return names
    },
    conditionalDelete,
    delete: remove,
  }
}

export interface PageOptions {
  /** The bucket's key, prefix included; exclusive. */
  readonly after?: string | undefined
  readonly pageSize?: number
  readonly delimiter?: string
}

/** All that begins with `start`, in byte order; `start` may end in the middle of a name. */
export async function* listPages(
  s3: S3,
  start: string,
  { after, pageSize: size = pageSize, delimiter }: PageOptions,
): AsyncGenerator<ListObjectsV2CommandOutput, void> {
  let token: string | undefined
  do {
    const command = {
      Bucket: s3.bucket,
      Prefix: s3.objectKey(start),
      MaxKeys: size,
      ...(after === undefined ? {} : { StartAfter: after }),
      ...(delimiter === undefined ? {} : { Delimiter: delimiter }),
      ...(token === undefined ? {} : { ContinuationToken: token }),
    }
    const page = await s3.call(`list ${start}`, (attempt) =>
      s3.client.send(new ListObjectsV2Command(command), attempt),
    )
    yield page
    token = page.IsTruncated === true ? page.NextContinuationToken : undefined
  } while (token !== undefined)
}

/**
 * Without etags no condition can be told. Servers on a file system give none for the moment in which
 * an object is replaced.
 */
function required(etag: string | undefined, key: string): string {
  if (etag !== undefined) return etag
  throw new NoAnswerError(`it gave no ETag for ${key}`)
}
