import type { Digest } from '../core/digest.ts'
import { CodedError } from '../core/errors.ts'
import { parseName } from '../core/reference.ts'
import type { Blobs, ByteRange, Page, Registry, Repository } from '../core/registry.ts'
import { createBlobWriter } from './blob-writer.ts'
import { bufferBytes, returnBuffer, takeBuffer } from './buffers.ts'
import type { DataFile, DataStore } from './data-store.ts'
import { keys } from './keys.ts'
import { createManifests, type StoredManifests } from './manifests.ts'
import { listRepositoryNames } from './repository-names.ts'
import { createSerial } from './serial.ts'
import type { SessionParts, Sessions } from './sessions.ts'

/** The `Registry` of this process's store, with what only HTTP clients of it ask for. */
export interface StoreRegistry extends Registry {
  repository(name: string): Repository & { readonly manifests: StoredManifests }
  /** Makes the blob of `from` readable in `to`; false where `from` has no such blob. */
  mountBlob(digest: Digest, names: { readonly from: string; readonly to: string }): Promise<boolean>
}

export interface StoreRegistryParts extends SessionParts {
  readonly sessions: Sessions
}

export function createStoreRegistry(parts: StoreRegistryParts): StoreRegistry {
  const { objects, index } = parts
  const serial = createSerial()

  async function holdsAnything(name: string): Promise<boolean> {
    for (const folder of [keys.tags(name), keys.manifests(name), keys.links(name)]) {
      if ((await objects.list(folder, { limit: 1 })).length > 0) return true
    }
    return false
  }

  async function listTags(name: string, { last, limit }: Page): Promise<string[]> {
    const folder = keys.tags(name)
    const after = last === undefined ? undefined : folder + last
    const found = await objects.list(folder, { after, limit })
    if (found.length === 0 && !(await holdsAnything(name))) {
      throw new CodedError('NAME_UNKNOWN', `no repository ${name}`)
    }
    return found.map((key) => key.slice(folder.length))
  }

  return {
    repository(text) {
      const name = parseName(text)
      return {
        name,
        blobs: createBlobs(name, parts),
        manifests: createManifests(name, { objects, index, serial }),
        listTags: (page) => listTags(name, page),
      }
    },
    listRepositories: (page) => listRepositoryNames(objects, page),
    async mountBlob(digest, { from, to }) {
      const found = await index.find(parseName(from), digest)
      return found !== undefined && index.link(parseName(to), digest)
    },
  }
}

function createBlobs(name: string, { index, data, sessions }: StoreRegistryParts): Blobs {
  return {
    async stat(digest) {
      const found = await index.find(name, digest)
      return found && { size: found.size }
    },
    async *read(digest, { range, signal }) {
      const found = await index.find(name, digest)
      if (!found) throw blobUnknown(name, digest)
      const { start, end } = range ?? { start: 0, end: found.size }
      if (start < 0 || start > end || end > found.size) {
        throw new CodedError(
          'RANGE_INVALID',
          `bytes [${start}, ${end}) are not in the blob ${digest} of ${found.size} bytes`,
        )
      }
      yield* readData(data, found.data, {
        range: { start: found.offset + start, end: found.offset + end },
        signal,
      })
    },
    create: (options) => createBlobWriter(name, options, { sessions, data }),
    delete: (digest) => index.unlink(name, digest),
  }
}

/** The refusal of a blob that the repository may not read. */
export function blobUnknown(name: string, digest: Digest): CodedError {
  return new CodedError('BLOB_UNKNOWN', `no blob ${digest} in the repository ${name}`)
}

/** Reads one buffer ahead of the caller; the two buffers are given back in every case. */
async function* readData(
  data: DataStore,
  uuid: string,
  { range, signal }: { readonly range: ByteRange; readonly signal: AbortSignal },
): AsyncGenerator<Uint8Array, void> {
  signal.throwIfAborted()
  await using file = await data.openForRead(keys.data(uuid))
  if (!file) throw new CodedError('UNKNOWN', `the data object ${uuid} of a blob is missing`)
  let ready = takeBuffer()
  let ahead = takeBuffer()
  let reading: Promise<Uint8Array> | undefined
  try {
    reading = readPiece(file, range.start, range.end, ready)
    for (let position = range.start; position < range.end;) {
      const piece: Uint8Array = await reading
      signal.throwIfAborted()
      position += piece.length
      reading =
        position < range.end ? readPiece(file, position, range.end, ahead) : Promise.resolve(piece)
      // Looked at in the next round; the caller may stop before it.
      reading.catch(() => {})
      yield piece
      ;[ready, ahead] = [ahead, ready]
    }
  } finally {
    await Promise.allSettled([reading])
    returnBuffer(ready)
    returnBuffer(ahead)
  }
}

async function readPiece(
  file: DataFile,
  start: number,
  end: number,
  buffer: Buffer,
): Promise<Uint8Array> {
  const piece = buffer.subarray(0, Math.min(bufferBytes, end - start))
  const got = await file.read(start, piece)
  if (got < piece.length) {
    throw new CodedError('UNKNOWN', `a data object ends at ${start + got}, before ${end}`)
  }
  return piece
}
