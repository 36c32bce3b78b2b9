import { digestAlgorithm, digestHex, type Digest } from '../core/digest.ts'

/** Longest piece of a key; a file system allows 255 bytes. */
const pieceLength = 200

const spread = (digest: Digest): string => {
  const hex = digestHex(digest)
  return `${digestAlgorithm(digest)}/${hex.slice(0, 2)}/${hex}`
}

const plain = (digest: Digest): string => `${digestAlgorithm(digest)}/${digestHex(digest)}`

/**
 * Every key of layout 1; written bottom-up (data, pointer, reference, link, manifest, tag) and
 * deleted top-down, so that what is visible is always complete. `docs/store-layout.md`
 */
export const keys = {
  uploads: 'v1/uploads/',
  repositories: 'v1/repos/',
  data: (uuid: string) => `v1/data/${uuid.slice(0, 2)}/${uuid}`,
  pointer: (digest: Digest) => `v1/blobs/${spread(digest)}.json`,
  /** A long name in base64url would not fit in one piece; only then it has several. */
  reference(digest: Digest, name: string, nonce: string): string {
    const encoded = Buffer.from(name).toString('base64url')
    const pieces = encoded.match(new RegExp(`.{1,${pieceLength}}`, 'g')) ?? []
    return `v1/refs/${spread(digest)}/${pieces.join('/')}/${nonce}`
  },
  upload: (uuid: string) => `v1/uploads/${uuid}.json`,
  links: (name: string) => `v1/repos/${name}/_b/`,
  link: (name: string, digest: Digest) => `v1/repos/${name}/_b/${plain(digest)}`,
  manifests: (name: string) => `v1/repos/${name}/_m/`,
  manifest: (name: string, digest: Digest) => `v1/repos/${name}/_m/${plain(digest)}`,
  manifestFacts: (name: string, digest: Digest) => `v1/repos/${name}/_m/${plain(digest)}.json`,
  tags: (name: string) => `v1/repos/${name}/_t/`,
  tag: (name: string, tag: string) => `v1/repos/${name}/_t/${tag}`,
} as const
