import { randomUUID } from 'node:crypto'
import type { S3Record } from './s3-checkpoint.ts'
import type { Tail } from './s3-source.ts'

/**
 * Which tail objects a writer still needs. One that a checkpoint names is kept until a later
 * checkpoint is recorded, which is known when the one after that is made.
 */
export interface Tails {
  /** What follows the parts, in order. */
  readonly chain: readonly Tail[]
  /** Bytes of the chain. */
  readonly bytes: number
  /** There may be objects of tails. */
  readonly everUsed: boolean
  /** One more of the chain, for the bytes from `offset` on. */
  add(offset: number, bytes: number): Tail
  /** The whole chain, which is about to become part of something larger. */
  takeAll(): readonly Tail[]
  /** They are part of something larger that is stored. */
  consumed(tails: readonly Tail[]): void
  /** Names of those that are not needed once what is recorded next is recorded. */
  readonly old: readonly string[]
  /** A checkpoint with the present chain is made; the one before it is recorded. */
  checkpoint(): void
  /** Goes back to the chain of a checkpoint. */
  rollback(to: readonly Tail[]): void
  /** Names of those that nobody needs any more, each answered once. */
  garbage(): string[]
  /** Names of those that no checkpoint names. */
  unnamed(): string[]
}

export function createTails(from: S3Record): Tails {
  let chain: readonly Tail[] = from.tails
  /** Neither consumed nor given up. */
  let live = new Set(chain)
  let named = namesOf(chain)
  /** Needed by the last checkpoint, and by the one before it. */
  let old: string[] = []
  let older: readonly string[] = from.old
  let garbage: string[] = []
  let everUsed = from.hasTails

  function drop({ name }: Tail): void {
    if (named.has(name)) old.push(name)
    else garbage.push(name)
  }

  return {
    get chain() {
      return chain
    },
    get bytes() {
      return chain.reduce((sum, { bytes }) => sum + bytes, 0)
    },
    get everUsed() {
      return everUsed
    },
    add(offset, bytes) {
      const tail = { name: `tail-${offset}-${randomUUID().slice(0, 8)}`, bytes }
      everUsed = true
      live.add(tail)
      chain = [...chain, tail]
      return tail
    },
    takeAll() {
      const taken = chain
      chain = []
      return taken
    },
    consumed(tails) {
      for (const tail of tails) if (live.delete(tail)) drop(tail)
    },
    get old() {
      return [...older, ...old]
    },
    checkpoint() {
      garbage.push(...older)
      older = old
      old = []
      named = namesOf(chain)
    },
    rollback(to) {
      const kept = namesOf(to)
      for (const tail of live) if (!kept.has(tail.name)) drop(tail)
      live = new Set(to)
      chain = to
      old = old.filter((name) => !kept.has(name))
      older = older.filter((name) => !kept.has(name))
    },
    garbage() {
      const asked = garbage
      garbage = []
      return asked
    },
    unnamed: () => [...live].map(({ name }) => name).filter((name) => !named.has(name)),
  }
}

const namesOf = (tails: readonly Tail[]): Set<string> => new Set(tails.map(({ name }) => name))
