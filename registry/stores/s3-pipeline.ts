import type { Checkpoint } from '../records.ts'
import { createBackground, createShared } from './background.ts'
import type { RunningHash } from './running-hash.ts'
import type { PieceBudget } from './s3-budget.ts'
import { createPartBuffer } from './s3-buffer.ts'
import { readCheckpoint, type S3Record } from './s3-checkpoint.ts'
import type { S3Limits } from './s3-limits.ts'
import type { SegmentPlace, Segments } from './s3-segments.ts'
import type { Sender, Source, Tail } from './s3-source.ts'
import type { Tails } from './s3-tails.ts'

/** Bytes on their way from a checkpoint on, until something fails or they are rolled back. */
export interface Pipeline {
  /** Position behind the last byte taken. */
  readonly end: number
  write(chunk: Uint8Array): Promise<void>
  /** All bytes taken are hashed. */
  hashed(): Promise<void>
  /** All bytes taken are stored, what is too little for a part as a tail. */
  checkpoint(): Promise<Checkpoint>
  /** All bytes taken are in parts; the last one has any size. */
  flush(): Promise<void>
  /** Where nothing is in parts yet: all bytes taken go to `send` as one run. */
  sendWhole(send: (source: Source, signal: AbortSignal) => Promise<void>): Promise<void>
  /** True while `sendWhole` is possible and better than parts. */
  readonly isSmall: boolean
  /** What is to record now. */
  describe(): Checkpoint
  /** Gives up what is on its way, and all memory. */
  stop(): Promise<void>
}

export interface PipelineParts {
  readonly segments: Segments
  readonly tails: Tails
  readonly hash: RunningHash | undefined
  /** State of `hash` as checkpoints name it. */
  readonly hashesOf: (state: string | undefined) => Pick<Checkpoint, 'hashes'>
  readonly sender: Sender
  readonly budget: PieceBudget
  readonly limits: S3Limits
  readonly partBytes: number
  readonly record: (checkpoint: Checkpoint) => Promise<void>
  /** Names of tail objects to remove some time. */
  readonly remove: (names: readonly string[]) => void
}

/** A part on its way; parts count in their order, whichever is stored first. */
interface Part {
  readonly end: number
  stored:
    | { readonly place: SegmentPlace; readonly etag: string; readonly state: string | undefined }
    | undefined
  readonly bytes: number
}

/** How far everything is stored. */
interface Boundary {
  readonly offset: number
  readonly state: string | undefined
  readonly tails: readonly Tail[]
}

/** Most tails in a row before they are put together. */
const mostTails = 8

/** `segments` and `tails` are those of `from`; it is what they record from now on. */
export function createPipeline(from: Checkpoint, parts: PipelineParts): Pipeline {
  const { segments, tails, hash, hashesOf, sender, budget, limits, partBytes, remove } = parts
  const background = createBackground()
  const { signal } = background
  const buffer = createPartBuffer({
    budget,
    signal,
    hash: (bytes) => hash?.add(bytes),
    onWanted: giveBack,
  })
  const storing = new Map<string, Promise<void>>()
  let queue: Part[] = []
  let placing: Promise<unknown> = Promise.resolve()
  let end = from.offset
  let recorded = from.offset
  let boundary: Boundary = { offset: end, state: undefined, tails: readCheckpoint(from).tails }
  let known: Pick<Checkpoint, 'hashes'> = from.hashes ? { hashes: from.hashes } : {}
  /** The owner is about to record what it gets from us. */
  let isClosing = false

  const record = createShared(async () => {
    const checkpoint = describe()
    const { superseded } = tails
    await segments.recording(() => parts.record(checkpoint))
    tails.removed(superseded)
    remove(superseded)
    recorded = Math.max(recorded, checkpoint.offset)
    background.changed()
  })

  function describe(): Checkpoint {
    const s3: S3Record = {
      segments: segments.snapshot(),
      tails: [...boundary.tails],
      old: [...tails.old],
      hasTails: tails.everUsed,
    }
    return { offset: boundary.offset, ...known, s3 }
  }

  const unsent = (): number => tails.bytes + buffer.bytes
  const isFull = (): boolean =>
    unsent() + limits.pieceBytes > partBytes && unsent() >= limits.minPartBytes

  /** What fills memory, behind `taken`, goes to `send`; its memory is free when that has ended. */
  function detach(
    taken: readonly Tail[],
    send: (source: Source, state: Promise<string | undefined>) => Promise<void>,
  ): Promise<void> {
    const { pieces, bytes, lease } = buffer.detach()
    const state = hash?.state() ?? Promise.resolve(undefined)
    const source = { tails: taken, pieces, bytes: bytes + sum(taken) }
    const before = taken.flatMap(({ name }) => storing.get(name) ?? [])
    return background.run(async () => {
      try {
        await Promise.all(before)
        signal.throwIfAborted()
        await send(source, state)
        tails.consumed(taken)
        remove(tails.garbage())
      } finally {
        await Promise.allSettled([state])
        lease.release()
      }
    })
  }

  function cut(): void {
    const part: Part = { end, bytes: unsent(), stored: undefined }
    queue.push(part)
    const placed = placing.then(() => segments.nextPlace(record, signal))
    placed.catch(() => {})
    placing = placed
    void detach(tails.takeAll(), async (source, hashed) => {
      const place = await placed
      const etag = await sender.part(place, source, signal)
      part.stored = { place, etag, state: await hashed }
      advance()
    })
  }

  /** What is first in the queue and stored moves the boundary. */
  function advance(): void {
    for (let part = queue[0]; part?.stored; part = queue[0]) {
      const { place, etag, state } = part.stored
      queue = queue.slice(1)
      segments.add(place, { bytes: part.bytes, etag })
      move({ offset: part.end, state, tails: [] })
    }
    if (!isClosing && boundary.offset - recorded >= limits.partBytes) void background.run(record)
  }

  function move(to: Boundary): void {
    boundary = to
    known = hashesOf(to.state)
    background.changed()
  }

  /** Too little for a part becomes an object that the next part begins with. */
  function spill(): void {
    const merged = tails.chain.length < mostTails ? [] : tails.takeAll()
    const bytes = sum(merged) + buffer.bytes
    const tail = tails.add(end - bytes, bytes)
    storing.set(
      tail.name,
      detach(merged, async (source) => {
        await sender.tail(tail.name, source, signal)
        storing.delete(tail.name)
      }),
    )
  }

  function giveBack(): void {
    if (buffer.bytes === 0) buffer.detach().lease.release()
    else if (unsent() >= limits.minPartBytes) cut()
    else spill()
  }

  async function closing<T>(action: () => Promise<T>): Promise<T> {
    isClosing = true
    try {
      return await action()
    } finally {
      isClosing = false
    }
  }

  return {
    get end() {
      return end
    },
    async write(chunk) {
      for (let rest = chunk; rest.length > 0;) {
        await background.until(() => end < recorded + limits.windowBytes)
        if (!buffer.hasRoom) {
          if (budget.isTight && unsent() >= limits.minPartBytes) cut()
          await buffer.room()
        }
        const taken = buffer.put(rest.subarray(0, recorded + limits.windowBytes - end))
        end += taken
        rest = rest.subarray(taken)
        if (!buffer.hasRoom && isFull()) cut()
      }
    },
    async hashed() {
      buffer.flushHash()
      await hash?.state()
    },
    checkpoint: () =>
      closing(async () => {
        if (unsent() >= limits.minPartBytes) cut()
        else if (buffer.bytes > 0) spill()
        await background.until(() => queue.length === 0 && storing.size === 0)
        move({ offset: end, state: await hash?.state(), tails: tails.chain })
        tails.checkpoint()
        recorded = end
        return describe()
      }),
    get isSmall() {
      return segments.bytes === 0 && queue.length === 0 && end <= limits.partBytes
    },
    flush: () =>
      closing(async () => {
        if (unsent() > 0) cut()
        await background.until(() => queue.length === 0)
      }),
    async sendWhole(send) {
      let isDone = false
      void detach(tails.takeAll(), async (source) => {
        await send(source, signal)
        move({ offset: end, state: undefined, tails: [] })
        isDone = true
      })
      await background.until(() => isDone)
    },
    describe,
    async stop() {
      await background.stop()
      buffer[Symbol.dispose]()
    },
  }
}

const sum = (tails: readonly Tail[]): number => tails.reduce((all, { bytes }) => all + bytes, 0)
