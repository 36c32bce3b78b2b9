import { digestAlgorithm, digestHex, parseDigest, type Digest } from '../core/digest.ts'

/** Longest piece of a key; a file system allows 255 bytes. */
const pieceLength = 200

const spread = (digest: Digest): string => {
  const hex = digestHex(digest)
  return `${digestAlgorithm(digest)}/${hex.slice(0, 2)}/${hex}`
}

const plain = (digest: Digest): string => `${digestAlgorithm(digest)}/${digestHex(digest)}`

/** A long name in base64url would not fit in one piece; only then it has several. */
const pieces = (name: string): string =>
  (
    Buffer.from(name)
      .toString('base64url')
      .match(new RegExp(`.{1,${pieceLength}}`, 'g')) ?? []
  ).join('/')

/**
 * Every key of layout 2; written bottom-up (data, reference, pointer, link, referrer, manifest,
 * tag) and deleted top-down, so that what is visible is always complete. `docs/store-layout.md`
 */
export const keys = {
  uploads: 'v1/uploads/',
  repositories: 'v1/repos/',
  dataFolder: 'v1/data/',
  data: (uuid: string) => `v1/data/${uuid.slice(0, 2)}/${uuid}`,
  blobs: 'v1/blobs/',
  /** `shard` is the first byte of the digest in hex. */
  pointers: (algorithm: string, shard: string) => `v1/blobs/${algorithm}/${shard}/`,
  pointer: (digest: Digest) => `v1/blobs/${spread(digest)}.json`,
  referenceShard: (algorithm: string, shard: string) => `v1/refs/${algorithm}/${shard}/`,
  references: (digest: Digest) => `v1/refs/${spread(digest)}/`,
  reference: (digest: Digest, name: string, nonce: string) =>
    `v1/refs/${spread(digest)}/${pieces(name)}/${nonce}`,
  upload: (uuid: string) => `v1/uploads/${uuid}.json`,
  quotas: 'v1/quota/',
  /** `prefix` of the rule; `''` is the account of all repositories. */
  quota: (prefix: string) =>
    `v1/quota/${prefix === '' ? 'total' : `p-${Buffer.from(prefix).toString('base64url')}`}.json`,
  scrub: 'v1/scrub.json',
  quarantines: 'v1/quarantine/',
  /** `data` names the damaged bytes, which a blob pushed again no longer has. */
  quarantine: (digest: Digest, data: string) => `v1/quarantine/${plain(digest)}/${data}.json`,
  links: (name: string) => `v1/repos/${name}/_b/`,
  link: (name: string, digest: Digest) => `v1/repos/${name}/_b/${plain(digest)}`,
  manifests: (name: string) => `v1/repos/${name}/_m/`,
  manifest: (name: string, digest: Digest) => `v1/repos/${name}/_m/${plain(digest)}`,
  referrers: (name: string, subject: Digest) => `v1/repos/${name}/_r/${plain(subject)}/`,
  /** Empty: what a referrer is stands in its manifest's own record. */
  referrer: (name: string, subject: Digest, digest: Digest) =>
    `v1/repos/${name}/_r/${plain(subject)}/${plain(digest).replace('/', '-')}`,
  tags: (name: string) => `v1/repos/${name}/_t/`,
  tag: (name: string, tag: string) => `v1/repos/${name}/_t/${tag}`,
} as const

/** The digest at the end of a link's, manifest's, referrer's or pointer's key; `undefined` where there is none. */
export function digestOfKey(key: string): Digest | undefined {
  const found = /(sha256|sha512)[/-](?:[0-9a-f]{2}\/)?([0-9a-f]{64,128})(?:\.json)?$/.exec(key)
  return found ? parseDigest(`${found[1]}:${found[2]}`) : undefined
}

/** What a reference's key says; `undefined` for a key that is none. */
export function parseReferenceKey(
  key: string,
): { readonly digest: Digest; readonly name: string; readonly nonce: string } | undefined {
  const found = /^v1\/refs\/(sha256|sha512)\/[0-9a-f]{2}\/([0-9a-f]+)\/(.+)\/([^/]+)$/.exec(key)
  if (!found) return undefined
  const [, algorithm = '', hex = '', name = '', nonce = ''] = found
  return {
    digest: parseDigest(`${algorithm}:${hex}`),
    name: Buffer.from(name.replaceAll('/', ''), 'base64url').toString(),
    nonce,
  }
}

/** The prefix of the rule whose account has that key; `undefined` for a key that is none. */
export function prefixOfQuotaKey(key: string): string | undefined {
  const [, total, encoded = ''] = /^v1\/quota\/(?:(total)|p-([\w-]+))\.json$/.exec(key) ?? []
  if (total !== undefined) return ''
  return encoded === '' ? undefined : Buffer.from(encoded, 'base64url').toString()
}
