import type { Bytes } from '../../core/streams.ts'

/** Of the time, spent waiting for bytes: more is a source that is slower than who reads it. */
const waitingShare = 0.7

/** Tells whether a source keeps its reader waiting. */
export interface Starving {
  /** The same chunks; counts how long each was waited for. */
  watch(body: Bytes): AsyncGenerator<Uint8Array, void>
  /** True where most of the time was waiting; never before it was watched for a while. */
  isSo(): boolean
}

export function createStarving(afterMs: number): Starving {
  let startedMs: number | undefined
  let waitedMs = 0
  return {
    async *watch(body) {
      let askedMs = (startedMs = performance.now())
      for await (const chunk of body) {
        waitedMs += performance.now() - askedMs
        yield chunk
        askedMs = performance.now()
      }
    },
    isSo() {
      const tookMs = startedMs === undefined ? 0 : performance.now() - startedMs
      return tookMs >= afterMs && waitedMs > tookMs * waitingShare
    },
  }
}
