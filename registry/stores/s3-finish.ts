import { LRUCache } from 'lru-cache'
import { createBlobHash } from '../../core/blob-hash.ts'
import { digestAlgorithm, digestHex, parseDigest, type Digest } from '../../core/digest.ts'
import type { HashOptions, HashResult } from '../../core/hash-pool.ts'
import type { ByteRange } from '../../core/registry.ts'
import type { Bytes } from '../../core/streams.ts'
import type { StoredData } from '../data-store.ts'
import type { Checkpoint } from '../records.ts'
import { readCheckpoint, segmentKey, type SegmentRecord } from './s3-checkpoint.ts'
import type { S3 } from './s3-client.ts'
import { abortUpload, completeUpload, loadEtags, multipartEtag } from './s3-complete.ts'
import type { S3Reader } from './s3-read.ts'
import type { EtagsOfParts } from './s3-segments.ts'
import { statObject, uploadIsGone } from './s3-source.ts'

const never = new AbortController().signal

/** Finished uploads whose etags are kept until they are completed. */
const keptUploads = 64

/** From parts to objects. */
export interface Finisher {
  /**
   * `segments` with all of their parts found and their etags to be. Throws BLOB_UPLOAD_UNKNOWN
   * where parts are gone. `known`: etags that need not be asked for.
   */
  prove(
    uuid: string,
    segments: readonly SegmentRecord[],
    known: EtagsOfParts,
  ): Promise<SegmentRecord[]>
  /** Makes objects of proven segments; false where one was deleted since. */
  store(uuid: string, segments: readonly SegmentRecord[], digest?: Digest): Promise<boolean>
  /** As `DataStore.complete`. */
  complete(uuid: string, finished: Checkpoint): Promise<StoredData | undefined>
  /** Hashes what is stored by reading it. */
  hash(uuid: string, segments: readonly SegmentRecord[], options: HashOptions): Promise<HashResult>
  /** True where the object is there with that length and digest. */
  hasBytes(key: string, bytes: number, expected: Digest): Promise<boolean>
}

export interface FinisherParts {
  readonly s3: S3
  readonly reader: S3Reader
  /** Removes the tail objects of a data object. */
  readonly removeTails: (uuid: string) => Promise<void>
}

export function createFinisher({ s3, reader, removeTails }: FinisherParts): Finisher {
  const etags = new LRUCache<string, EtagsOfParts>({ max: keptUploads })

  /**
   * True where the object is proven to be the one meant, false where its bytes must be looked at,
   * `undefined` where it is not there.
   */
  async function storeSegment(uuid: string, index: number, segment: SegmentRecord) {
    const key = segmentKey(uuid, index)
    const { uploadId, bytes, stored, etag } = segment
    if (stored !== undefined) return (await statObject(s3, key)) ? true : undefined
    if (bytes === 0) return true
    const known = etags.get(uuid)?.[index] ?? new Map()
    const loaded = uploadId && (await loadEtags(s3, { key, uploadId }, segment, known))
    const answered = loaded && (await completeUpload(s3, { key, uploadId }, loaded))
    // Another process may have been faster, and some servers say yes to whoever comes second.
    const found = await statObject(s3, key)
    if (!found) return undefined
    if (found.bytes !== bytes) throw uploadIsGone(uuid)
    return found.etag === answered || found.etag === etag
  }

  async function hash(
    uuid: string,
    segments: readonly SegmentRecord[],
    options: HashOptions,
  ): Promise<HashResult> {
    const lengths = segments.map(({ bytes }) => bytes)
    return hashOf(readSegments(reader, uuid, lengths, { start: 0 }, never), options)
  }

  async function hasBytes(key: string, bytes: number, expected: Digest): Promise<boolean> {
    const found = await statObject(s3, key)
    if (found?.bytes !== bytes) return false
    const body = reader.read(key, { start: 0, end: bytes }, never)
    const { hex } = await hashOf(body, { algorithm: digestAlgorithm(expected) })
    return hex === digestHex(expected)
  }

  async function store(
    uuid: string,
    segments: readonly SegmentRecord[],
    digest?: Digest,
  ): Promise<boolean> {
    const stored = await Promise.all(
      segments.map((segment, index) => storeSegment(uuid, index, segment)),
    )
    etags.delete(uuid)
    if (stored.includes(undefined)) return false
    if (digest === undefined || !stored.includes(false)) return true
    const { hex } = await hash(uuid, segments, { algorithm: digestAlgorithm(digest) })
    if (hex !== digestHex(digest)) throw uploadIsGone(uuid)
    return true
  }

  /** Uploads that were begun and hold nothing of the blob. */
  async function giveUpSpare(uuid: string, segments: readonly SegmentRecord[]): Promise<void> {
    for (const [index, { uploadId, bytes, stored }] of segments.entries()) {
      if (uploadId === undefined || (bytes > 0 && stored === undefined)) continue
      await abortUpload(s3, { key: segmentKey(uuid, index), uploadId })
    }
  }

  return {
    async prove(uuid, segments, known) {
      const loaded = await Promise.all(
        segments.map(async (segment, index) => {
          const { uploadId, bytes, stored } = segment
          if (bytes === 0 || stored !== undefined || uploadId === undefined) return new Map()
          const place = { key: segmentKey(uuid, index), uploadId }
          const found = await loadEtags(s3, place, segment, known[index] ?? new Map())
          if (!found) throw uploadIsGone(uuid)
          return found
        }),
      )
      etags.set(uuid, loaded)
      return segments.map((segment, index) => {
        const parts = [...(loaded[index] ?? [])].sort(([a], [b]) => a - b)
        const etag = multipartEtag(parts.map(([, etag]) => etag))
        return etag === undefined || parts.length === 0 ? segment : { ...segment, etag }
      })
    },
    store,
    async complete(uuid, finished) {
      const { segments, hasTails, digest } = readCheckpoint(finished)
      if (digest === undefined) throw new Error(`the data object ${uuid} is not finished`)
      if (!(await store(uuid, segments, parseDigest(digest)))) return undefined
      await giveUpSpare(uuid, segments)
      if (hasTails) await removeTails(uuid)
      return storedData(uuid, segments)
    },
    hash,
    hasBytes,
  }
}

async function hashOf(body: Bytes, options: HashOptions): Promise<HashResult> {
  const hash = createBlobHash(options)
  if (!hash) throw new Error(`no hash of ${options.algorithm}`)
  for await (const chunk of body) await hash.updateAside(chunk)
  return hash.finish()
}

/** One object that holds nothing else needs no list of lengths. */
function storedData(uuid: string, segments: readonly SegmentRecord[]): StoredData {
  const used = segments.slice(0, segments.findLastIndex(isUsed) + 1)
  const [first] = used
  const isWhole = used.length === 1 && (first?.stored ?? first?.bytes) === first?.bytes
  return isWhole ? { data: uuid } : { data: uuid, segments: used.map(({ bytes }) => bytes) }
}

const isUsed = ({ bytes, stored }: SegmentRecord): boolean => bytes > 0 || stored !== undefined

/** `[start, end)`, or all from `start`, of the objects one after the other. */
export async function* readSegments(
  reader: S3Reader,
  uuid: string,
  lengths: readonly number[],
  { start, end = Infinity }: { readonly start: number; readonly end?: number },
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void> {
  let begin = 0
  for (const [index, length] of lengths.entries()) {
    const range: ByteRange = {
      start: Math.max(0, start - begin),
      end: Math.min(length, end - begin),
    }
    if (range.start < range.end) yield* reader.read(segmentKey(uuid, index), range, signal)
    begin += length
  }
}
