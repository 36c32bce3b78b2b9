import { randomUUID } from 'node:crypto'
import { digestOf, type Digest } from '../../core/digest.ts'
import { mediaTypes } from '../../core/manifest.ts'
import type { ObjectStore } from '../../core/object-store.ts'
import { createBlobIndex, type BlobIndex } from '../../registry/blob-index.ts'
import { collectLink, type Condemned } from '../../registry/gc/collect-link.ts'
import { collectManifest } from '../../registry/gc/collect-manifest.ts'
import { collectPointer } from '../../registry/gc/collect-pointer.ts'
import { createReadReferences } from '../../registry/gc/references.ts'
import { digestOfKey, keys } from '../../registry/keys.ts'
import { isServed, readManifest } from '../../registry/manifest-records.ts'
import { createManifests, type StoredManifests } from '../../registry/manifests.ts'
import { createQuotas } from '../../registry/quota.ts'
import { linkRecord, pointerRecord } from '../../registry/records.ts'
import { createTags } from '../../registry/tags.ts'
import { readVersioned } from '../../registry/versioned.ts'
import { createMemoryObjects } from './memory-objects.ts'

const dayMs = 24 * 60 * 60 * 1000

/** A small store in memory: objects, and which data objects there are. */
export interface World {
  readonly objects: ReturnType<typeof createMemoryObjects>
  readonly data: Set<string>
}

/** What one process does to the store; every replica has its own caches. */
export interface Process {
  readonly index: BlobIndex
  manifests(name: string): StoredManifests
  /** Uploads the blob anew: data of its own, then the commit. */
  push(name: string, blob: Uint8Array): Promise<void>
  /** Everything the collector does about one link, the grace in between being any time. */
  collectLink(name: string, digest: Digest): Promise<void>
  collectPointer(digest: Digest): Promise<void>
  collectManifest(name: string, digest: Digest): Promise<void>
}

/** A process whose calls go through `objects`, and whose steps on data go through `step`. */
export function createProcess(
  { data }: World,
  objects: ObjectStore,
  step: <T>(action: () => Promise<T>) => Promise<T>,
): Process {
  const accounts = createQuotas(objects, [])
  const index = createBlobIndex(objects, { onUnlinked: () => {}, accounts })
  const readReferences = createReadReferences(objects)
  const dataStore = {
    delete: ({ data: uuid }: { readonly data: string }) => step(async () => data.delete(uuid)),
  }

  async function pointer(digest: Digest): Promise<void> {
    await collectPointer({ objects, data: dataStore }, digest)
  }

  return {
    index,
    manifests: (name) =>
      createManifests(name, {
        objects,
        index,
        tags: createTags(name, objects),
        onDeleted: () => {},
        onUntagged: () => {},
      }),
    async push(name, blob) {
      const uuid = randomUUID()
      data.add(uuid)
      const bytes = { data: uuid, offset: 0, size: blob.length }
      if (!(await index.commit(name, digestOf(blob), bytes))) await dataStore.delete({ data: uuid })
    },
    async collectLink(name, digest) {
      let waitedFor: Condemned | undefined
      const since = readReferences.now()
      for (let look = 0; look < 3; look++) {
        const outcome = await collectLink(
          { objects, readReferences, accounts },
          { name, digest, orphanGraceMs: 2 * dayMs, askedGraceMs: 0, since, waitedFor },
        )
        if (outcome.kind === 'removed') return pointer(digest)
        if (outcome.kind !== 'waiting') return
        waitedFor = outcome.condemned
      }
    },
    collectPointer: pointer,
    async collectManifest(name, digest) {
      await collectManifest({ objects, readReferences }, { name, digest })
    },
  }
}

/** An image manifest with `blob` as its config and only blob. */
export function manifestOf(blob: Uint8Array) {
  const config = { mediaType: mediaTypes.ociConfig, digest: digestOf(blob), size: blob.length }
  return encode(mediaTypes.ociManifest, { config, layers: [] })
}

export function indexOf(manifest: { readonly digest: Digest; readonly bytes: Uint8Array }) {
  const { digest, bytes } = manifest
  const child = { mediaType: mediaTypes.ociManifest, digest, size: bytes.length }
  return encode(mediaTypes.ociIndex, { manifests: [child] })
}

function encode(mediaType: string, facts: object) {
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, ...facts }))
  return { mediaType, bytes, digest: digestOf(bytes) }
}

/** A store in which `prepare` has happened `daysAgo` days ago. */
export async function createWorld(
  prepare: (process: Process) => Promise<void>,
  daysAgo: number,
): Promise<World> {
  const world = { objects: createMemoryObjects(), data: new Set<string>() }
  await prepare(createProcess(world, world.objects, (action) => action()))
  const then = new Date(Date.now() - daysAgo * dayMs).toISOString()
  const aged = [...world.objects.copy()].map(([key, bytes]): [string, Uint8Array] => {
    const text = Buffer.from(bytes).toString()
    return [key, Buffer.from(text.replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, then))]
  })
  return { objects: createMemoryObjects(new Map(aged)), data: world.data }
}

export function copyWorld({ objects, data }: World): World {
  return { objects: createMemoryObjects(objects.copy()), data: new Set(data) }
}

/**
 * What is wrong with a store nobody is working on: one line per broken promise. After a crash a
 * tag may point to nothing: nobody was told that it exists, and the collector removes it.
 */
export async function violations({ objects, data }: World, crashed: boolean): Promise<string[]> {
  const wrong: string[] = []
  const livePointer = async (digest: Digest): Promise<boolean> => {
    const found = await readVersioned(objects, pointerRecord, keys.pointer(digest))
    return found !== undefined && found.record.state !== 'dead' && data.has(found.record.data)
  }
  const liveLink = async (name: string, digest: Digest): Promise<boolean> => {
    const found = await readVersioned(objects, linkRecord, keys.link(name, digest))
    if (!found || found.record.state === 'dead') return false
    const reference = keys.reference(digest, name, found.record.nonce)
    if (!(await objects.get(reference))) wrong.push(`the link of ${name} has no reference`)
    if (!(await livePointer(digest))) wrong.push(`a link of ${name} points to nothing`)
    return true
  }
  for (const name of await objects.listFolders(keys.repositories)) {
    for (const key of await objects.list(keys.links(name), {})) {
      const digest = digestOfKey(key)
      if (digest) await liveLink(name, digest)
    }
    for (const key of await objects.list(keys.manifests(name), {})) {
      const digest = digestOfKey(key)
      const stored = digest && (await readManifest(objects, name, digest))
      if (!stored || !isServed(stored)) continue
      for (const blob of stored.record.blobs) {
        if (!(await liveLink(name, blob))) wrong.push(`a manifest of ${name} lacks a blob`)
      }
      for (const child of stored.record.manifests) {
        const found = await readManifest(objects, name, child)
        if (!found || !isServed(found)) wrong.push('an index lacks a manifest')
      }
    }
    for await (const { tag, digest } of createTags(name, objects).all()) {
      const found = await readManifest(objects, name, digest)
      if (!crashed && !(found && isServed(found))) wrong.push(`${name}:${tag} points to nothing`)
    }
  }
  return wrong
}
