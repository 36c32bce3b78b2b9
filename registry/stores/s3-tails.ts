import { randomUUID } from 'node:crypto'
import type { S3Record } from './s3-checkpoint.ts'
import type { Tail } from './s3-source.ts'

/**
 * Which tail objects a writer still needs. One that a checkpoint names is kept until a later one is
 * made, and then until this writer has recorded something: by that it knows that nobody has taken
 * over from the earlier one.
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
  /** Names of those that are not needed by the last checkpoint, or only by it. */
  readonly old: readonly string[]
  /** Names of those that only checkpoints before the last one need. */
  readonly superseded: readonly string[]
  /** A checkpoint with the present chain is made. */
  checkpoint(): void
  /** What was superseded is needed no more. */
  removed(names: readonly string[]): void
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
  /** Needed by the last checkpoint only, and by earlier ones only. */
  let old: string[] = []
  let superseded: readonly string[] = from.old
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
      return [...superseded, ...old]
    },
    get superseded() {
      return superseded
    },
    checkpoint() {
      superseded = [...superseded, ...old]
      old = []
      named = namesOf(chain)
    },
    removed(names) {
      superseded = superseded.filter((name) => !names.includes(name))
    },
    rollback(to) {
      const kept = namesOf(to)
      for (const tail of live) if (!kept.has(tail.name)) drop(tail)
      live = new Set(to)
      chain = to
      old = old.filter((name) => !kept.has(name))
      superseded = superseded.filter((name) => !kept.has(name))
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
