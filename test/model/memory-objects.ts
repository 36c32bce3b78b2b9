import type { ListOptions, ObjectStore, PutCondition } from '../../core/object-store.ts'

/** Small objects in memory. Like a real store's, an etag says nothing but what the bytes are. */
export function createMemoryObjects(
  stored = new Map<string, Uint8Array>(),
): ObjectStore & { readonly copy: () => Map<string, Uint8Array> } {
  const etagOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')

  function holds(key: string, condition: PutCondition): boolean {
    const current = stored.get(key)
    if (condition === 'always') return true
    if (condition === 'ifAbsent') return current === undefined
    return current !== undefined && etagOf(current) === condition.ifMatch
  }

  return {
    conditionalDelete: true,
    copy: () => new Map(stored),
    async get(key) {
      const bytes = stored.get(key)
      return bytes && { bytes, etag: etagOf(bytes) }
    },
    async put(key, bytes, condition) {
      if (!holds(key, condition)) return undefined
      stored.set(key, Uint8Array.from(bytes))
      return etagOf(bytes)
    },
    async list(folder, { after = '', limit = Infinity }: ListOptions) {
      const found = [...stored.keys()].filter((key) => key.startsWith(folder) && key > after)
      return found.sort().slice(0, limit)
    },
    async listFolders(folder) {
      const rest = [...stored.keys()].filter((key) => key.startsWith(folder))
      const names = rest.map((key) => key.slice(folder.length).split('/'))
      return [
        ...new Set(names.filter(({ length }) => length > 1).map(([name = '']) => name)),
      ].sort()
    },
    async delete(key, condition) {
      if (condition && !holds(key, condition)) return false
      return stored.delete(key)
    },
  }
}
