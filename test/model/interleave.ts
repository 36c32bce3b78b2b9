import type { ObjectStore } from '../../core/object-store.ts'

/** Picks one of `count` waiting calls; the whole run follows from the picks. */
export type Choose = (count: number) => number

interface Waiting {
  readonly actor: string
  readonly go: () => Promise<void>
}

/** One run of several actors whose store calls happen one at a time, in the order chosen. */
export interface Interleaving {
  /** The same store for one actor: every call waits for its turn. */
  storeFor(actor: string, objects: ObjectStore): ObjectStore
  /** Any other step that must be a turn of its own. */
  step<T>(actor: string, action: () => Promise<T>): Promise<T>
  /**
   * Runs until all actors have ended. The actor `crashes` names is dropped after so many of its
   * calls and never goes on. Answers the order of the calls.
   */
  run(
    actors: Readonly<Record<string, () => Promise<void>>>,
    crash?: { readonly actor: string; readonly afterCalls: number },
  ): Promise<string>
}

export function createInterleaving(choose: Choose): Interleaving {
  let waiting: Waiting[] = []

  function step<T>(actor: string, action: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      waiting.push({ actor, go: () => action().then(resolve, reject) })
    })
  }

  return {
    step,
    storeFor: (actor, objects) => ({
      conditionalDelete: objects.conditionalDelete,
      get: (key) => step(actor, () => objects.get(key)),
      put: (key, bytes, condition) => step(actor, () => objects.put(key, bytes, condition)),
      list: (folder, options) => step(actor, () => objects.list(folder, options)),
      listFolders: (folder) => step(actor, () => objects.listFolders(folder)),
      delete: (key, condition) => step(actor, () => objects.delete(key, condition)),
    }),
    async run(actors, crash) {
      let failure: { readonly error: unknown } | undefined
      let order = ''
      let calls = 0
      waiting = []
      for (const [name, act] of Object.entries(actors)) {
        act().catch(
          (error: unknown) =>
            (failure ??= { error: new Error(`${name}: ${String(error)}`, { cause: error }) }),
        )
      }
      for (;;) {
        // Every promise that can go on has gone on: who is not waiting has ended.
        await new Promise(setImmediate)
        if (failure) throw failure.error
        const possible = waiting.filter(
          ({ actor }) => actor !== crash?.actor || calls < crash.afterCalls,
        )
        const next = possible[choose(possible.length)]
        if (!next) return order
        waiting.splice(waiting.indexOf(next), 1)
        if (next.actor === crash?.actor) calls++
        order += next.actor
        await next.go()
      }
    },
  }
}
