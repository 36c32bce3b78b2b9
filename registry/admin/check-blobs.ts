import type { Digest } from '../../core/digest.ts'
import { CodedError } from '../../core/errors.ts'
import type { ObjectStore } from '../../core/object-store.ts'
import type { DataStore, StoredData } from '../data-store.ts'
import { keys } from '../keys.ts'
import { linkRecord, pointerRecord, quarantineRecord, sessionRecord } from '../records.ts'
import { finding, type Finding } from './findings.ts'
import { see, whyNot } from './see.ts'

const dayMs = 24 * 60 * 60 * 1000

/** Reads a store, and nothing but reads. */
export interface CheckParts {
  readonly objects: ObjectStore
  readonly data: Pick<DataStore, 'read'>
  /** Data objects can be read while they are written. */
  readonly isFiles: boolean
  readonly signal: AbortSignal
  /** Hears of every data object that a record names. */
  readonly claim: (data: string) => void
}

/** A pointer that serves has its data, as long as it needs it. */
export async function checkPointer(parts: CheckParts, digest: Digest): Promise<Finding[]> {
  const key = keys.pointer(digest)
  const { record, damage } = await see(parts, pointerRecord, key)
  if (damage) return [damage]
  if (!record) return []
  parts.claim(record.data)
  if (record.state === 'dead') return []
  const { offset, size } = record
  return checkData(parts, key, record, offset + size)
}

/** Damaged bytes stay until they are purged. */
export async function checkQuarantine(
  parts: CheckParts,
  digest: Digest,
  uuid: string,
): Promise<Finding[]> {
  const key = keys.quarantine(digest, uuid)
  const { record, damage } = await see(parts, quarantineRecord, key)
  if (damage) return [damage]
  parts.claim(uuid)
  // Without a digest there was nothing to read.
  if (!record?.found) return []
  const found = await checkData(parts, key, record, record.offset + record.size)
  return found.map(({ problem }) => finding('quarantine-data-missing', key, problem))
}

/** What was acknowledged of an upload is there. */
export async function checkSession(parts: CheckParts, id: string): Promise<Finding[]> {
  const key = keys.upload(id)
  const { record, damage } = await see(parts, sessionRecord, key)
  if (damage) return [damage]
  if (!record) return []
  parts.claim(record.data)
  // Before its first byte it has no data object.
  const isEmpty = record.checkpoint.offset === 0
  if (record.state === 'ended' || isEmpty || !parts.isFiles) return []
  const found = await checkData(parts, key, { data: record.data }, record.checkpoint.offset)
  return found.map(({ problem }) => finding('session-data-missing', key, problem))
}

/** Reads the last byte of every data object, which tells that all of it is there. */
async function checkData(
  { data, signal }: CheckParts,
  key: string,
  where: StoredData,
  end: number,
): Promise<Finding[]> {
  const { segments = [end] } = where
  const total = segments.reduce((sum, length) => sum + length, 0)
  if (total < end)
    return [finding('data-missing', key, `its segments hold ${total} of ${end} bytes`)]
  let segmentEnd = 0
  try {
    for (const length of segments) {
      segmentEnd += length
      const at = Math.min(segmentEnd, end)
      const range = { start: Math.max(0, at - 1), end: at }
      for await (const _ of data.read(where, range, signal)) continue
    }
    return []
  } catch (error) {
    signal.throwIfAborted()
    return [unreadable(key, error)]
  }
}

/** What failed to be read: bytes that are not there, or storage that does not work. */
function unreadable(key: string, error: unknown): Finding {
  const isMissing = error instanceof CodedError && error.code === 'UNKNOWN'
  return finding(isMissing ? 'data-missing' : 'data-unreadable', key, whyNot(error))
}

/** A link that serves has its reference, and a pointer that serves just as many bytes. */
export async function checkLink(
  parts: CheckParts,
  name: string,
  digest: Digest,
): Promise<Finding[]> {
  const key = keys.link(name, digest)
  const { record: link, damage } = await see(parts, linkRecord, key)
  if (damage) return [damage]
  if (!link || link.state === 'dead') return []
  const found: Finding[] = []
  const reference = keys.reference(digest, name, link.nonce)
  if (!(await parts.objects.get(reference))) {
    found.push(finding('reference-missing', key, `its reference ${reference} is missing`))
  }
  const pointer = await see(parts, pointerRecord, keys.pointer(digest))
  if (pointer.damage) return found
  if (!pointer.record) {
    found.push(finding('pointer-missing', key, `the blob ${digest} is not stored`))
  } else if (pointer.record.state === 'dead') {
    const why = pointer.record.quarantined === true ? 'is in quarantine' : 'was removed'
    found.push(finding('pointer-missing', key, `the blob ${digest} ${why}`))
  } else if (pointer.record.size !== link.size) {
    const sizes = `${link.size} bytes, the blob has ${pointer.record.size}`
    found.push(finding('size-differs', key, `it says ${sizes}`))
  }
  return found
}

/** A reference has the link that it was made for, or that is about to come. */
export async function checkReference(
  parts: CheckParts,
  {
    digest,
    name,
    nonce,
  }: { readonly digest: Digest; readonly name: string; readonly nonce: string },
): Promise<Finding[]> {
  const { record: link, damage } = await see(parts, linkRecord, keys.link(name, digest))
  if (damage || (link && link.state !== 'dead' && link.nonce === nonce)) return []
  const key = keys.reference(digest, name, nonce)
  const stored = await parts.objects.get(key)
  if (!stored) return []
  const at = Date.parse(Buffer.from(stored.bytes).toString())
  if (Number.isNaN(at)) return [finding('record-damaged', key, 'it holds no time')]
  if (at + dayMs > Date.now()) return []
  return [finding('reference-orphan', key, `no link of ${name} to ${digest} has it`)]
}
