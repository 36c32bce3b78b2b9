import type { Store } from '../store.ts'
import type { StoreRegistry } from '../store-registry.ts'
import type { Mirror } from './mirror.ts'

/** The store as all other parts see it: `find` answers the mirror that a repository belongs to. */
export function withMirrors(store: Store, find: (name: string) => Mirror | undefined): Store {
  const { registry: local, uploads } = store

  const registry: StoreRegistry = {
    ...local,
    repository(name) {
      const repository = local.repository(name)
      return find(name)?.repository(repository) ?? repository
    },
    async mountBlob(digest, options) {
      find(options.to)?.refuseWrite(options.to)
      return local.mountBlob(digest, options)
    },
  }
  return {
    ...store,
    registry,
    uploads: {
      ...uploads,
      // Spreading would keep the count of this moment.
      get openCount() {
        return uploads.openCount
      },
      async create(name, options) {
        find(name)?.refuseWrite(name)
        return uploads.create(name, options)
      },
    },
  }
}
