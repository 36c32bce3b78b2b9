import { parseDigest, type Digest } from '../../core/digest.ts'
import { parseName, parseTag } from '../../core/reference.ts'
import type { ObjectStore } from '../../core/object-store.ts'
import { keys, parseReferenceKey } from '../keys.ts'

/** What a key of the layout stands for. `docs/store-layout.md` */
export type StoredThing =
  | { readonly kind: 'pointer'; readonly digest: Digest }
  | {
      readonly kind: 'reference'
      readonly digest: Digest
      readonly name: string
      readonly nonce: string
    }
  | { readonly kind: 'data'; readonly uuid: string }
  | { readonly kind: 'session'; readonly id: string }
  | { readonly kind: 'quarantine'; readonly digest: Digest; readonly uuid: string }
  | { readonly kind: 'link' | 'manifest'; readonly name: string; readonly digest: Digest }
  | {
      readonly kind: 'referrer'
      readonly name: string
      readonly subject: Digest
      readonly digest: Digest
    }
  | { readonly kind: 'tag'; readonly name: string; readonly tag: string }
  /** A record whose part of the server knows it better. */
  | { readonly kind: 'other' }

const uuidPattern = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}'
/** Also its further segments, and what an upload to a bucket has not made a part of it yet. */
const dataKey = new RegExp(
  `^v1/data/([0-9a-f]{2})/(${uuidPattern})(?:\\.[1-9]\\d{0,5}|\\.tail-\\d+-[0-9a-f]{8})?$`,
)
const sessionKey = new RegExp(`^v1/uploads/(${uuidPattern})\\.json$`)
const quarantineKey = new RegExp(
  `^v1/quarantine/(sha256|sha512)/([0-9a-f]+)/(${uuidPattern})\\.json$`,
)
const pointerKey = /^v1\/blobs\/(sha256|sha512)\/[0-9a-f]{2}\/([0-9a-f]+)\.json$/
const repositoryKey = /^v1\/repos\/(.+?)\/_([bmrt])\/(.+)$/
const plainDigest = /^(sha256|sha512)\/([0-9a-f]+)$/
const referrerName = /^(sha256|sha512)\/([0-9a-f]+)\/(sha256|sha512)-([0-9a-f]+)$/
const otherKey =
  /^(?:layout\.json|v1\/(?:probe|scrub)\.json|v1\/(?:gc|quota|imports(?:-keys|-cancel|-state|-hits|-secrets)?|runners|auth|pulls|events)\/.+)$/

/** `undefined` for a key that is none of this layout. */
export function parseKey(key: string): StoredThing | undefined {
  try {
    const thing = read(key)
    // What reads back as another key is not one of ours, however much it looks like it.
    return thing && (keyOf(thing) ?? key) === key ? thing : undefined
  } catch {
    // Not a digest, name or tag: then it is not a key of ours.
    return undefined
  }
}

function read(key: string): StoredThing | undefined {
  if (otherKey.test(key)) return { kind: 'other' }
  const [, shard, data] = dataKey.exec(key) ?? []
  if (data !== undefined)
    return data.startsWith(shard ?? '-') ? { kind: 'data', uuid: data } : undefined
  const [, session] = sessionKey.exec(key) ?? []
  if (session !== undefined) return { kind: 'session', id: session }
  const [, of, hex, uuid] = quarantineKey.exec(key) ?? []
  if (uuid !== undefined) return { kind: 'quarantine', digest: digest(of, hex), uuid }
  const [, algorithm, pointer] = pointerKey.exec(key) ?? []
  if (pointer !== undefined) return { kind: 'pointer', digest: digest(algorithm, pointer) }
  const reference = parseReferenceKey(key)
  if (reference) return { kind: 'reference', ...reference, name: parseName(reference.name) }
  const [, name = '', part, rest = ''] = repositoryKey.exec(key) ?? []
  return part === undefined ? undefined : readRepositoryKey(parseName(name), part, rest)
}

function readRepositoryKey(name: string, part: string, rest: string): StoredThing | undefined {
  if (part === 't') return { kind: 'tag', name, tag: parseTag(rest) }
  if (part === 'r') {
    const [, ofSubject, subject, algorithm, hex] = referrerName.exec(rest) ?? []
    if (hex === undefined) return undefined
    return {
      kind: 'referrer',
      name,
      subject: digest(ofSubject, subject),
      digest: digest(algorithm, hex),
    }
  }
  const [, algorithm, hex] = plainDigest.exec(rest) ?? []
  if (hex === undefined) return undefined
  return { kind: part === 'b' ? 'link' : 'manifest', name, digest: digest(algorithm, hex) }
}

const digest = (algorithm = '', hex = ''): Digest => parseDigest(`${algorithm}:${hex}`)

/** The key that belongs to it; `undefined` where it does not say all of it. */
function keyOf(thing: StoredThing): string | undefined {
  switch (thing.kind) {
    case 'pointer':
      return keys.pointer(thing.digest)
    case 'reference':
      return keys.reference(thing.digest, thing.name, thing.nonce)
    case 'session':
      return keys.upload(thing.id)
    case 'quarantine':
      return keys.quarantine(thing.digest, thing.uuid)
    case 'link':
      return keys.link(thing.name, thing.digest)
    case 'manifest':
      return keys.manifest(thing.name, thing.digest)
    case 'referrer':
      return keys.referrer(thing.name, thing.subject, thing.digest)
    case 'tag':
      return keys.tag(thing.name, thing.tag)
    case 'data':
    case 'other':
      return undefined
  }
}

const pageSize = 2000

/** All keys below `folder` behind `start`, in byte order, a page at a time. */
export async function* walkKeys(
  objects: Pick<ObjectStore, 'list'>,
  folder: string,
  start?: string,
): AsyncGenerator<readonly string[], void> {
  for (let after = start; ;) {
    const page = await objects.list(folder, { after, limit: pageSize })
    if (page.length > 0) yield page
    if (page.length < pageSize) return
    after = page.at(-1)
  }
}

/** Behind every key that begins with a folder's name. */
const last = '~'

/** Keys that are in none of the `folders` below `root`; those are not looked into. */
export async function* walkOutside(
  objects: Pick<ObjectStore, 'list'>,
  root: string,
  folders: readonly string[],
): AsyncGenerator<string, void> {
  let after: string | undefined
  for (;;) {
    const [key] = await objects.list(root, { after, limit: 1 })
    if (key === undefined) return
    const inside = folders.find((folder) => key.startsWith(folder))
    if (inside === undefined) yield key
    after = inside === undefined ? key : inside + last
  }
}
