/** What a path below `/v2/` means; the pieces are not checked yet. */
export type Target =
  | { readonly kind: 'ping' }
  | { readonly kind: 'catalog' }
  | { readonly kind: 'extensions' }
  | { readonly kind: 'tags'; readonly name: string }
  | { readonly kind: 'referrers'; readonly name: string; readonly digest: string }
  | { readonly kind: 'manifest'; readonly name: string; readonly reference: string }
  | { readonly kind: 'blob'; readonly name: string; readonly digest: string }
  | { readonly kind: 'uploads'; readonly name: string }
  | { readonly kind: 'upload'; readonly name: string; readonly id: string }

/** The last `/blobs/`, `/manifests/`, `/referrers/` or `/tags/` counts: names contain slashes. */
const pattern =
  /^(?<name>.+)\/(?:blobs\/uploads\/?(?<id>[^/]*)|blobs\/(?<digest>[^/]+)|manifests\/(?<reference>[^/]+)|referrers\/(?<subject>[^/]+)|tags\/list)$/

/** `path` is what follows `/v2/`, decoded; `undefined` where there is no such endpoint. */
export function parseTarget(path: string): Target | undefined {
  if (path === '') return { kind: 'ping' }
  if (path === '_catalog') return { kind: 'catalog' }
  if (path === '_oci/ext/discover') return { kind: 'extensions' }
  const groups = pattern.exec(path)?.groups
  const name = groups?.['name']
  if (!groups || name === undefined) return undefined
  const { id, digest, reference, subject } = groups
  if (id !== undefined) return id === '' ? { kind: 'uploads', name } : { kind: 'upload', name, id }
  if (digest !== undefined) return { kind: 'blob', name, digest }
  if (reference !== undefined) return { kind: 'manifest', name, reference }
  if (subject !== undefined) return { kind: 'referrers', name, digest: subject }
  return { kind: 'tags', name }
}
