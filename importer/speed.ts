/** Speed of growing bytes over the last few seconds. */
export interface Speed {
  /** Takes all bytes so far at `nowMs`; they never shrink. */
  add(bytes: number, nowMs: number): void
  /** Bytes per second; 0 before there is anything to tell. */
  readonly bytesPerSecond: number
  /** ms until `totalBytes`; undefined where the speed or the total is not known. */
  etaMs(totalBytes: number | undefined): number | undefined
}

const windowMs = 5000
const sampleMs = 200

export function createSpeed(): Speed {
  const samples: { bytes: number; atMs: number }[] = []
  let latest = { bytes: 0, atMs: 0 }
  const speed: Speed = {
    add(bytes, nowMs) {
      latest = { bytes, atMs: nowMs }
      const last = samples.at(-1)
      if (last && nowMs - last.atMs < sampleMs) return
      samples.push(latest)
      while ((samples[0]?.atMs ?? nowMs) < nowMs - windowMs) samples.shift()
    },
    get bytesPerSecond() {
      const first = samples[0]
      const elapsedMs = first ? latest.atMs - first.atMs : 0
      return first && elapsedMs > 0 ? ((latest.bytes - first.bytes) * 1000) / elapsedMs : 0
    },
    etaMs(totalBytes) {
      if (totalBytes === undefined || speed.bytesPerSecond === 0) return undefined
      return Math.max(0, ((totalBytes - latest.bytes) * 1000) / speed.bytesPerSecond)
    },
  }
  return speed
}
