import type { Manifests, Registry } from '../../core/registry.ts'
import type { Events } from './events.ts'

/**
 * The same registry, which tells of the manifests that are put and deleted in it. For what this
 * process does by itself, such as imports: what HTTP clients do is told by the routes.
 */
export function announceChanges(registry: Registry, events: Events): Registry {
  return {
    ...registry,
    repository(text) {
      const repository = registry.repository(text)
      const { name, manifests } = repository
      return { ...repository, manifests: announced(name, manifests, events) }
    },
  }
}

function announced(repository: string, manifests: Manifests, events: Events): Manifests {
  return {
    ...manifests,
    async put(manifest, options) {
      const stored = await manifests.put(manifest, options)
      const { digest, mediaType, size } = stored
      const target = { repository, digest, mediaType, size, tag: options.tag }
      events.emit({ action: 'push', target })
      return stored
    },
    async delete(reference, options) {
      const wasThere = await manifests.delete(reference, options)
      const { tag, digest } = { tag: undefined, digest: undefined, ...reference }
      if (wasThere) events.emit({ action: 'delete', target: { repository, tag, digest } })
      return wasThere
    },
  }
}
