import { CreateMultipartUploadCommand } from '@aws-sdk/client-s3'
import { CodedError } from '../../core/errors.ts'
import { segmentKey, type SegmentRecord } from './s3-checkpoint.ts'
import type { Attempt, S3 } from './s3-client.ts'
import { abortUpload } from './s3-complete.ts'
import type { PartPlace } from './s3-source.ts'

/** Where a part goes; `etags` is filled in once it is there. */
export interface SegmentPlace extends PartPlace {
  readonly segment: number
}

/**
 * The objects that a blob becomes and the part numbers in use. A number is used once and by one
 * writer only: a writer uses those that it has claimed by a recorded checkpoint, and one that goes
 * on begins behind all claims. So whatever an overtaken writer still sends, it sends elsewhere.
 */
export interface Segments {
  /**
   * Where the next part goes. One call at a time; a claim is recorded first where it needs one:
   * `record` resolves when a snapshot taken after the call is recorded.
   */
  nextPlace(record: () => Promise<void>, signal: AbortSignal): Promise<SegmentPlace>
  /** The part is stored; in the order of places. */
  add(place: SegmentPlace, part: { readonly bytes: number; readonly etag: string }): void
  /**
   * All bytes as one object that is stored already. `put` answers false where other bytes are under
   * the key, which an overtaken writer has left: then the next key is tried.
   */
  addStored(bytes: number, put: (key: string) => Promise<boolean>): Promise<void>
  /** Bytes in parts and in stored objects. */
  readonly bytes: number
  /** All parts so far were made into objects: what follows goes to further ones. */
  markStored(): void
  /** As to record now, claims included. */
  snapshot(): SegmentRecord[]
  /** Records the present snapshot; what it claims may be used once that has succeeded. */
  recording(save: () => Promise<void>): Promise<void>
  /** Forgets parts that are not in `to`; their numbers stay used. */
  rollback(to: readonly SegmentRecord[]): void
  /** Etags of parts that this writer has sent, by segment and number. */
  readonly etags: EtagsOfParts
  /** Gives up uploads that no record names. */
  release(): Promise<void>
}

export type EtagsOfParts = ReadonlyMap<number, string>[]

interface Segment {
  uploadId: string | undefined
  /** A record may name the upload: whoever finds it there goes on with it or gives it up. */
  isKnown: boolean
  next: number
  /** Numbers below it may be used. */
  claimed: number
  /** Numbers below it are claimed by the next record. */
  wanted: number
  runs: [first: number, count: number][]
  bytes: number
  stored: number | undefined
  etags: Map<number, string>
}

const fewestClaimed = 4
const mostClaimed = 16

export function createSegments(
  uuid: string,
  from: readonly SegmentRecord[],
  { s3, mostParts }: { readonly s3: S3; readonly mostParts: number },
): Segments {
  const segments = from.map(open)
  let claim = fewestClaimed

  /** The last one with bytes goes on; those behind it were begun and not used. */
  function lastUsed(): number {
    return Math.max(
      0,
      segments.findLastIndex(({ bytes }) => bytes > 0),
    )
  }

  async function currentSegment(): Promise<number> {
    for (let index = lastUsed(); ; index++) {
      const segment = (segments[index] ??= open({ next: 1, runs: [], bytes: 0 }))
      if (segment.stored === undefined && segment.next <= mostParts) return index
    }
  }

  async function createUpload(key: string, signal: AbortSignal): Promise<string> {
    const command = { ...s3.place(key), ContentType: 'application/octet-stream' }
    const begin = (attempt: Attempt) =>
      s3.client.send(new CreateMultipartUploadCommand(command), attempt)
    const { UploadId } = await s3.call(`begin ${key}`, begin, { signal })
    if (UploadId === undefined) throw new CodedError('UNKNOWN', `no upload id for ${key}`)
    return UploadId
  }

  return {
    async nextPlace(record, signal) {
      const index = await currentSegment()
      const segment = at(index)
      const key = segmentKey(uuid, index)
      segment.uploadId ??= await createUpload(key, signal)
      if (segment.next >= segment.claimed) {
        segment.wanted = Math.min(segment.next + claim, mostParts + 1)
        claim = Math.min(claim * 2, mostClaimed)
        await record()
      }
      return { segment: index, key, uploadId: segment.uploadId, number: segment.next++ }
    },
    add(place, { bytes, etag }) {
      const segment = at(place.segment)
      const run = segment.runs.at(-1)
      if (run && run[0] + run[1] === place.number) run[1]++
      else segment.runs.push([place.number, 1])
      segment.bytes += bytes
      segment.etags.set(place.number, etag)
    },
    async addStored(bytes, put) {
      for (let index = 0; ; index++) {
        const segment = (segments[index] ??= open({ next: 1, runs: [], bytes: 0 }))
        if (segment.stored !== undefined) continue
        const isOurs = await put(segmentKey(uuid, index))
        segment.stored = bytes
        if (!isOurs) continue
        segment.bytes = bytes
        return
      }
    },
    get bytes() {
      return segments.reduce((sum, { bytes }) => sum + bytes, 0)
    },
    markStored() {
      for (const segment of segments) if (segment.bytes > 0) segment.stored ??= segment.bytes
    },
    snapshot: () => segments.map(describe),
    async recording(save) {
      const snapshot = segments.map(describe)
      const unknown = segments.filter(({ uploadId, isKnown }) => uploadId && !isKnown)
      for (const segment of unknown) segment.isKnown = true
      try {
        await save()
      } catch (error) {
        // Refused for certain, and not only without an answer.
        const isRefused = error instanceof CodedError && !error.retryable
        for (const segment of isRefused ? unknown : []) segment.isKnown = false
        throw error
      }
      for (const [index, { next }] of snapshot.entries()) {
        at(index).claimed = Math.max(at(index).claimed, next)
      }
    },
    rollback(to) {
      for (const [index, segment] of segments.entries()) {
        const { runs = [], bytes = 0 } = to[index] ?? {}
        segment.runs = runs.map(([first, count]) => [first, count])
        segment.bytes = bytes
      }
    },
    get etags() {
      return segments.map(({ etags }) => etags)
    },
    async release() {
      for (const [index, { uploadId, isKnown }] of segments.entries()) {
        if (uploadId === undefined || isKnown) continue
        await abortUpload(s3, { key: segmentKey(uuid, index), uploadId })
      }
    },
  }

  function at(index: number): Segment {
    const segment = segments[index]
    if (!segment) throw new Error(`no segment ${index} of ${uuid}`)
    return segment
  }
}

function open(record: SegmentRecord): Segment {
  const { uploadId, next, runs, bytes, stored } = record
  return {
    uploadId,
    isKnown: uploadId !== undefined,
    next,
    claimed: next,
    wanted: next,
    runs: runs.map(([first, count]) => [first, count]),
    bytes,
    stored,
    etags: new Map(),
  }
}

function describe({ uploadId, claimed, wanted, runs, bytes, stored }: Segment): SegmentRecord {
  return {
    next: Math.max(claimed, wanted),
    runs: runs.map(([first, count]) => [first, count]),
    bytes,
    ...(uploadId === undefined ? {} : { uploadId }),
    ...(stored === undefined ? {} : { stored }),
  }
}
