import { randomUUID } from 'node:crypto'
import { digestAlgorithm, type Digest } from '../core/digest.ts'
import { CodedError } from '../core/errors.ts'
import type { ObjectStore } from '../core/object-store.ts'
import { keys } from './keys.ts'
import { decodeJson, encodeJson, linkRecord, pointerRecord, type Pointer } from './records.ts'

/** Where the bytes of a finished blob are. */
export interface StoredBytes {
  /** Data object. */
  readonly data: string
  /** Position of the blob's first byte in it. */
  readonly offset: number
  readonly size: number
}

/** Which blobs there are, and which repository may read them. */
export interface BlobIndex {
  /** `undefined` where the repository has no link to it. */
  find(name: string, digest: Digest): Promise<Pointer | undefined>
  /**
   * Makes verified, durable bytes readable in the repository. False where the same blob was there
   * already: then the bytes given are not needed.
   */
  commit(name: string, digest: Digest, bytes: StoredBytes): Promise<boolean>
  /** Makes a stored blob readable in one more repository; false where it is not stored. */
  link(name: string, digest: Digest): Promise<boolean>
  /** False where the repository had no link. */
  unlink(name: string, digest: Digest): Promise<boolean>
  /** True where the blob's bytes are those of the data object. */
  isStoredIn(digest: Digest, data: string): Promise<boolean>
}

export function createBlobIndex(objects: ObjectStore): BlobIndex {
  async function readPointer(digest: Digest): Promise<Pointer | undefined> {
    const key = keys.pointer(digest)
    const stored = await objects.get(key)
    return stored && decodeJson(pointerRecord, stored.bytes, key)
  }

  async function readLink(name: string, digest: Digest) {
    const key = keys.link(name, digest)
    const stored = await objects.get(key)
    return stored && decodeJson(linkRecord, stored.bytes, key)
  }

  async function addLink(name: string, digest: Digest): Promise<void> {
    if (await readLink(name, digest)) return
    const nonce = randomUUID()
    const reference = keys.reference(digest, name, nonce)
    await objects.put(reference, new Uint8Array(), 'ifAbsent')
    const link = encodeJson({ state: 'live', nonce, at: new Date().toISOString() })
    const added = await objects.put(keys.link(name, digest), link, 'ifAbsent')
    // Someone else was faster: that link has its own reference.
    if (added === undefined) await objects.delete(reference)
  }

  return {
    async find(name, digest) {
      return (await readLink(name, digest)) && (await readPointer(digest))
    },
    async commit(name, digest, { data, offset, size }) {
      const pointer = encodeJson({
        state: 'live',
        gen: 1,
        data,
        offset,
        size,
        [digestAlgorithm(digest)]: digest,
        at: new Date().toISOString(),
      })
      const added = await objects.put(keys.pointer(digest), pointer, 'ifAbsent')
      const stored = added === undefined ? await readPointer(digest) : undefined
      if (stored && stored.size !== size) {
        throw new CodedError(
          'UNKNOWN',
          `the pointer of ${digest} says ${stored.size} bytes, the verified bytes are ${size}`,
        )
      }
      await addLink(name, digest)
      return stored === undefined || stored.data === data
    },
    async link(name, digest) {
      if (!(await readPointer(digest))) return false
      await addLink(name, digest)
      return true
    },
    async unlink(name, digest) {
      const link = await readLink(name, digest)
      if (!link) return false
      const removed = await objects.delete(keys.link(name, digest))
      await objects.delete(keys.reference(digest, name, link.nonce))
      return removed
    },
    async isStoredIn(digest, data) {
      return (await readPointer(digest))?.data === data
    },
  }
}
