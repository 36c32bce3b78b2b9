import type { ObjectStore } from '../core/object-store.ts'
import type { Page } from '../core/registry.ts'
import { keys } from './keys.ts'

/** A name to look at, or (with a `/` behind it) all names that begin with it. */
type Candidate = string

/**
 * Names of repositories with a manifest, or (`anything`) with anything at all, in byte order. Always looks at the lowest candidate
 * next, so a page costs what it shows, never the whole store.
 */
export async function listRepositoryNames(
  objects: ObjectStore,
  { last = '', limit = Infinity, anything = false }: Page & { readonly anything?: boolean },
): Promise<string[]> {
  const folders = anything ? [keys.manifests, keys.links, keys.tags] : [keys.manifests]
  const names: string[] = []
  let candidates: Candidate[] = ['']
  while (names.length < limit) {
    const candidate = candidates.shift()
    if (candidate === undefined) break
    if (candidate === '' || candidate.endsWith('/')) {
      const below = (await objects.listFolders(keys.repositories + candidate))
        .filter((piece) => !piece.startsWith('_'))
        .flatMap((piece) => [candidate + piece, `${candidate}${piece}/`])
      candidates = [...candidates, ...below.filter((name) => mayHoldAfter(name, last))].sort()
    } else if (await holdsAny(objects, folders, candidate)) names.push(candidate)
  }
  return names
}

function mayHoldAfter(candidate: Candidate, last: string): boolean {
  return candidate > last || (candidate.endsWith('/') && last.startsWith(candidate))
}

async function holdsAny(
  objects: ObjectStore,
  folders: readonly ((name: string) => string)[],
  name: string,
): Promise<boolean> {
  for (const folder of folders) {
    if ((await objects.list(folder(name), { limit: 1 })).length > 0) return true
  }
  return false
}
