import { createHash } from 'node:crypto'
import { CodedError } from './errors.ts'

declare const digestBrand: unique symbol
/** A checked OCI digest, `sha256:<64 hex>` or `sha512:<128 hex>`. Made only by `parseDigest`. */
export type Digest = string & { readonly [digestBrand]: true }

export type DigestAlgorithm = 'sha256' | 'sha512'

/** What is known of stored bytes. `size` in bytes. @see OCI image-spec descriptor.md */
export interface Descriptor {
  readonly mediaType: string
  readonly digest: Digest
  readonly size: number
}

const pattern = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/

/** Throws DIGEST_INVALID unless `text` is a sha256 or sha512 digest in lower-case hex. */
export function parseDigest(text: string): Digest {
  if (!pattern.test(text)) {
    throw new CodedError(
      'DIGEST_INVALID',
      `not a digest: ${JSON.stringify(text.slice(0, 200))}; expected sha256:<64 hex> or sha512:<128 hex>`,
    )
  }
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the brand is made here, after the check
  return text as Digest
}

export function digestAlgorithm(digest: Digest): DigestAlgorithm {
  return digest.startsWith('sha512:') ? 'sha512' : 'sha256'
}

/** The part after the colon. */
export function digestHex(digest: Digest): string {
  return digest.slice(digest.indexOf(':') + 1)
}

/** The digest of `bytes`, for small objects (manifests, configs); layers are hashed by a thread. */
export function digestOf(bytes: Uint8Array, algorithm: DigestAlgorithm = 'sha256'): Digest {
  return parseDigest(`${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`)
}
