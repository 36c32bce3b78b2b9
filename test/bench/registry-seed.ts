import { execa } from 'execa'
import { randomUUID } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { digestHex, digestOf } from '../../core/digest.ts'
import { mediaTypes, parseManifest } from '../../core/manifest.ts'
import { keys } from '../../registry/keys.ts'
import { describeManifest } from '../../registry/manifest-records.ts'
import { encodeJson, type Link, type Pointer, type TagRecord } from '../../registry/records.ts'
import { openS3Store } from '../../registry/stores/s3.ts'
import { benchPrefix } from '../fixtures/bench-servers.ts'
import { seededBlob, seededPerManifest, type SeededBlob } from './registry-seeded-blobs.ts'
import type { Place } from './registry-sites.ts'

/** Older than any grace that a garbage collection leaves. */
const ageMs = 7 * 24 * 60 * 60 * 1000
const writesAtOnce = 64

type Entry = readonly [key: string, bytes: Uint8Array]
type Put = (key: string, bytes: Uint8Array) => Promise<void>

/**
 * Puts the first `count` blobs of `registry-seeded-blobs.ts` into a store of dvcr that no server
 * has open, with the manifests that keep half of them, as if all had been pushed a week ago.
 */
export async function seedStore(place: Place, count: number): Promise<void> {
  await using writer = await openWriter(place)
  const entries = seededEntries(count)
  const work = async (): Promise<void> => {
    for (const [key, bytes] of entries) await writer.put(key, bytes)
  }
  await Promise.all(Array.from({ length: writesAtOnce }, work))
}

/** Writes without the syncs that a push needs: all of it is synced at the end. */
async function openWriter({ folder, s3 }: Place): Promise<AsyncDisposable & { readonly put: Put }> {
  if (s3) {
    const store = await openS3Store({ bucket: s3.bucket, prefix: benchPrefix, endpoint: s3.url })
    return {
      put: async (key, bytes) => void (await store.objects.put(key, bytes, 'always')),
      [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
    }
  }
  const folders = new Map<string, Promise<unknown>>()
  return {
    async put(key, bytes) {
      const path = join(folder, key)
      const parent = dirname(path)
      const made = folders.get(parent) ?? mkdir(parent, { recursive: true })
      folders.set(parent, made)
      await made
      await writeFile(path, bytes)
    },
    [Symbol.asyncDispose]: async () => void (await execa('sync', ['-f', folder])),
  }
}

function* seededEntries(count: number): Generator<Entry, void> {
  const at = new Date(Date.now() - ageMs).toISOString()
  let together: SeededBlob[] = []
  for (let number = 0; number < count; number++) {
    const blob = seededBlob(number)
    yield* blobEntries(blob, at)
    if (!blob.isKept) continue
    together.push(blob)
    if (together.length < seededPerManifest && number < count - 1) continue
    yield* imageEntries(together, at)
    together = []
  }
}

function* blobEntries(
  { repository, bytes, digest }: SeededBlob,
  at: string,
): Generator<Entry, void> {
  const [data, nonce] = [randomUUID(), randomUUID()]
  const size = bytes.length
  const pointer: Pointer = { state: 'live', rev: 1, data, offset: 0, size, at }
  const link: Link = { state: 'live', rev: 1, nonce, size, at }
  yield [keys.data(data), bytes]
  yield [keys.reference(digest, repository, nonce), Buffer.from(at)]
  yield [keys.pointer(digest), encodeJson(pointer)]
  yield [keys.link(repository, digest), encodeJson(link)]
}

/** A tagged manifest of these blobs; the first one is the config. */
function* imageEntries(blobs: readonly SeededBlob[], at: string): Generator<Entry, void> {
  const mediaType = mediaTypes.ociManifest
  const [config, ...layers] = blobs.map(({ digest, bytes }, index) => ({
    mediaType: index === 0 ? mediaTypes.ociConfig : mediaTypes.ociLayer,
    digest,
    size: bytes.length,
  }))
  const repository = blobs[0]?.repository ?? ''
  const bytes = encodeJson({ schemaVersion: 2, mediaType, config, layers })
  const digest = digestOf(bytes)
  const parsed = parseManifest(mediaType, bytes)
  const record = { ...describeManifest(mediaType, parsed), state: 'live', at }
  yield [keys.manifest(repository, digest), Buffer.concat([encodeJson(record), bytes])]
  const tag: TagRecord = { digest, mediaType, size: bytes.length, nonce: randomUUID(), at }
  yield [keys.tag(repository, digestHex(digest)), encodeJson(tag)]
}
