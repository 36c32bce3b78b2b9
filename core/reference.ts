import { parseDigest, type Digest } from './digest.ts'
import { CodedError } from './errors.ts'

const component = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*'
const namePattern = new RegExp(`^${component}(?:/${component})*$`)
const tagPattern = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/

/** A tag or a digest of one repository. @see OCI distribution-spec §pulling-manifests */
export type Reference =
  | { readonly kind: 'tag'; readonly tag: string }
  | { readonly kind: 'digest'; readonly digest: Digest }

/** `name:tag` or `name@digest` inside one registry (no host). */
export interface ImageReference {
  readonly name: string
  readonly reference: Reference
}

/** True for a repository name of at most 255 characters. */
export const isName = (text: string): boolean => text.length <= 255 && namePattern.test(text)

/** Returns `text`; throws NAME_INVALID unless it is a repository name of at most 255 characters. */
export function parseName(text: string): string {
  if (!isName(text)) {
    const hint = /[A-Z]/.test(text) ? `; use lower case: ${text.toLowerCase().slice(0, 255)}` : ''
    throw new CodedError(
      'NAME_INVALID',
      `not a repository name: ${JSON.stringify(text.slice(0, 300))}; lower-case letters, digits and . _ - / are allowed, at most 255 characters${hint}`,
    )
  }
  return text
}

/** True for a tag of at most 128 characters. */
export const isTag = (text: string): boolean => tagPattern.test(text)

/** Returns `text`; throws TAG_INVALID unless it is a tag of at most 128 characters. */
export function parseTag(text: string): string {
  if (!isTag(text)) {
    throw new CodedError(
      'TAG_INVALID',
      `not a tag: ${JSON.stringify(text.slice(0, 200))}; letters, digits and _ . - are allowed, at most 128 characters, not starting with . or -`,
    )
  }
  return text
}

/** A tag, or a digest where `text` contains a colon. Throws TAG_INVALID or DIGEST_INVALID. */
export function parseReference(text: string): Reference {
  return text.includes(':')
    ? { kind: 'digest', digest: parseDigest(text) }
    : { kind: 'tag', tag: parseTag(text) }
}

/** `name`, `name:tag` or `name@digest`; a bare name means tag `latest`. */
export function parseImageReference(text: string): ImageReference {
  const at = text.indexOf('@')
  if (at >= 0) {
    return {
      name: parseName(text.slice(0, at)),
      reference: { kind: 'digest', digest: parseDigest(text.slice(at + 1)) },
    }
  }
  const colon = text.lastIndexOf(':')
  const name = colon >= 0 ? text.slice(0, colon) : text
  const tag = colon >= 0 ? text.slice(colon + 1) : 'latest'
  return { name: parseName(name), reference: { kind: 'tag', tag: parseTag(tag) } }
}

export function formatReference(reference: Reference): string {
  return reference.kind === 'tag' ? reference.tag : reference.digest
}

export function formatImageReference({ name, reference }: ImageReference): string {
  return reference.kind === 'tag' ? `${name}:${reference.tag}` : `${name}@${reference.digest}`
}
