import { availableParallelism } from 'node:os'
import type { Bytes } from '../../core/streams.ts'
import type { OnBoundary } from './boundary.ts'
import { outputBytes } from './zlib-stage.ts'
import { zstdPieces } from './zstd-frames.ts'
import { openZstdLane, type ZstdLane } from './zstd-lane.ts'

/** Frames, or groups of small ones, that are decoded at a time; each in Node's thread pool. */
const mostLanes = Math.min(4, availableParallelism())
/** What a lane may decode before its turn. */
const aheadBytes = 4 * 1024 * 1024
/** A frame with a larger window is decoded alone: what lanes hold together is bounded. */
const sharedWindowBytes = 8 * 1024 * 1024

/**
 * Decodes zstd frames, several at a time where there are several, in order. Only zeros may follow
 * the end. Throws COMPRESSION_INVALID, SIZE_EXCEEDED for windows over 128 MiB. Tells where a frame
 * begins, each time a mebibyte later.
 */
export async function* decodeZstd(
  body: Bytes,
  onBoundary?: OnBoundary,
): AsyncGenerator<Uint8Array, void> {
  /** In the order of their output; each with the compressed bytes before it. */
  const lanes: (ZstdLane & { readonly begin: number })[] = []
  let outcome: { readonly error?: unknown } | undefined
  let wakeReader = (): void => {}
  let wakeFeeder = (): void => {}

  function settle(reached: { readonly error?: unknown }): void {
    outcome ??= reached
    wakeReader()
    wakeFeeder()
  }

  async function until(isSo: () => boolean): Promise<void> {
    while (!isSo() && !outcome) await new Promise<void>((resolve) => (wakeFeeder = resolve))
  }

  function openLane(begin: number): ZstdLane {
    const opened = openZstdLane({
      // The first one gives its output at once: where it stays the only one, no more is held.
      aheadBytes: lanes.length > 0 ? aheadBytes : outputBytes,
      onChange: () => wakeFeeder(),
    })
    lanes.push({ ...opened, begin })
    wakeReader()
    return opened
  }

  async function feed(): Promise<void> {
    let lane: ZstdLane | undefined
    let isAlone = false
    let compressed = 0
    for await (const { bytes, release, startsGroup, windowBytes } of zstdPieces(body)) {
      if (startsGroup || !lane) {
        lane?.end()
        await until(() => lanes.length < (isAlone ? 1 : mostLanes))
        isAlone = false
        lane = openLane(compressed)
      }
      compressed += bytes.length
      if (windowBytes > sharedWindowBytes) {
        isAlone = true
        await until(() => lanes.length === 1)
      }
      const current = lane
      if (outcome || current.isOver()) return
      if (!current.write(bytes, release)) {
        await until(() => !current.isFull() || current.isOver())
      }
    }
    lane?.end()
  }

  feed().then(
    () => settle({}),
    (error: unknown) => {
      settle({ error })
      for (const lane of lanes) lane.close()
    },
  )
  try {
    for (let decoded = 0; ;) {
      const [lane] = lanes
      if (lane) {
        if (lane.begin > 0) onBoundary?.({ compressed: lane.begin, decoded })
        for await (const chunk of lane.read()) {
          decoded += chunk.length
          yield chunk
        }
        lanes.shift()
        wakeFeeder()
      } else if (outcome) {
        if (outcome.error !== undefined) throw outcome.error
        return
      } else {
        await new Promise<void>((resolve) => (wakeReader = resolve))
      }
    }
  } catch (error) {
    if (outcome?.error !== undefined) throw outcome.error
    throw error
  } finally {
    settle({})
    for (const lane of lanes) lane.close()
  }
}
