import { z } from 'zod'
import type { Digest } from '../../core/digest.ts'
import { CodedError } from '../../core/errors.ts'
import type { ObjectStore } from '../../core/object-store.ts'
import { digestOfKey, keys } from '../keys.ts'
import { isServed, readManifest } from '../manifest-records.ts'
import type { Recount } from '../quota.ts'
import { linkRecord } from '../records.ts'
import { listRepositoryNames } from '../repository-names.ts'
import { createTags } from '../tags.ts'
import { see } from './see.ts'

/** Records read at a time. */
const readAtOnce = 32

/** What a repository holds. A blob of several repositories counts in each of them. */
export const repositoryUse = z.object({
  name: z.string(),
  tags: z.int(),
  manifests: z.int(),
  blobs: z.int(),
  /** Bytes of the blobs that it can read. */
  bytes: z.int(),
  /** When something was last pushed, mounted or tagged. */
  lastPush: z.iso.datetime().optional(),
})
export type RepositoryUse = z.output<typeof repositoryUse>

const manifestUse = z.object({
  digest: z.string(),
  mediaType: z.string(),
  artifactType: z.string().optional(),
  subject: z.string().optional(),
  tags: z.array(z.string()),
  /** Of the manifest and the blobs that it names. */
  bytes: z.int(),
  pushedAt: z.iso.datetime(),
})

/** One repository in detail. */
export const repositoryDetail = z.object({ name: z.string(), manifests: z.array(manifestUse) })
export type RepositoryDetail = z.output<typeof repositoryDetail>

/** A repository's right to read a blob, as it counts for quotas. */
export interface LinkUse {
  readonly name: string
  readonly digest: Digest
  readonly size: number
  readonly at: string
}

/** The links of one repository that are not dead. A damaged record is left out: fsck finds it. */
export async function* readLinks(
  objects: ObjectStore,
  name: string,
  onDamaged: (key: string) => void = () => {},
): AsyncGenerator<LinkUse, void> {
  const read = async (key: string): Promise<LinkUse | undefined> => {
    const { record, damage } = await see({ objects }, linkRecord, key)
    const digest = digestOfKey(key)
    if (damage) onDamaged(key)
    if (!record || !digest || record.state === 'dead') return undefined
    return { name, digest, size: record.size, at: record.at }
  }
  const found = await objects.list(keys.links(name), {})
  for (let start = 0; start < found.length; start += readAtOnce) {
    const links = await Promise.all(found.slice(start, start + readAtOnce).map(read))
    for (const link of links) if (link) yield link
  }
}

/** The links of all repositories. */
export async function* readAllLinks(
  objects: ObjectStore,
  onDamaged?: (key: string) => void,
): AsyncGenerator<LinkUse, void> {
  for (const name of await listRepositoryNames(objects, { anything: true })) {
    yield* readLinks(objects, name, onDamaged)
  }
}

/** Reads what counts for quotas. */
export function countOf(objects: ObjectStore): Recount {
  return {
    links: () => readAllLinks(objects),
    async sessions() {
      const found = await objects.list(keys.uploads, {})
      return found.map((key) => key.slice(keys.uploads.length, -'.json'.length))
    },
  }
}

/** What every repository holds, in byte order of their names. */
export async function* listUse(
  objects: ObjectStore,
  signal: AbortSignal,
): AsyncGenerator<RepositoryUse, void> {
  for (const name of await listRepositoryNames(objects, { anything: true })) {
    signal.throwIfAborted()
    const manifests = (await objects.list(keys.manifests(name), {})).length
    const use = { name, tags: 0, manifests, blobs: 0, bytes: 0 }
    let lastPush = ''
    const note = (at: string): void => void (lastPush = at > lastPush ? at : lastPush)
    for await (const { size, at } of readLinks(objects, name)) {
      use.blobs++
      use.bytes += size
      note(at)
    }
    for await (const { at } of createTags(name, objects).all()) {
      use.tags++
      note(new Date(at).toISOString())
    }
    yield lastPush === '' ? use : { ...use, lastPush }
  }
}

/** All manifests of a repository, the newest first. Throws NAME_UNKNOWN where it holds nothing. */
export async function describeRepository(
  objects: ObjectStore,
  name: string,
): Promise<RepositoryDetail> {
  const tags = new Map<Digest, string[]>()
  for await (const { tag, digest } of createTags(name, objects).all()) {
    tags.set(digest, [...(tags.get(digest) ?? []), tag])
  }
  const sizes = new Map<Digest, number>()
  for await (const { digest, size } of readLinks(objects, name)) sizes.set(digest, size)
  const manifests: z.output<typeof manifestUse>[] = []
  for (const key of await objects.list(keys.manifests(name), {})) {
    const digest = digestOfKey(key)
    const stored = digest && (await readManifest(objects, name, digest))
    if (!digest || !stored || !isServed(stored)) continue
    const { mediaType, artifactType, subject, blobs, at } = stored.record
    const named = blobs.reduce((sum, blob) => sum + (sizes.get(blob) ?? 0), 0)
    manifests.push({
      digest,
      mediaType,
      ...(artifactType === undefined ? {} : { artifactType }),
      ...(subject === undefined ? {} : { subject }),
      tags: tags.get(digest) ?? [],
      bytes: stored.bytes.length + named,
      pushedAt: at,
    })
  }
  if (manifests.length + sizes.size + tags.size === 0) throw unknownRepository(name)
  return { name, manifests: manifests.sort((a, b) => (a.pushedAt < b.pushedAt ? 1 : -1)) }
}

export function unknownRepository(name: string): CodedError {
  return new CodedError('NAME_UNKNOWN', `no repository ${name}; dvcr registry ls lists them`)
}
