/** Waits between tries of a source, ms: growing, all together about `totalMs`. */
export function retryDelays(totalMs: number): readonly number[] {
  const delaysMs: number[] = []
  for (let leftMs = totalMs; leftMs > 0;) {
    const growing = [500, 2000, 5000, 10_000, 20_000][delaysMs.length] ?? 30_000
    delaysMs.push(Math.min(growing, leftMs))
    leftMs -= growing
  }
  return delaysMs
}

/** Of `dvcr`, unless set: seven and a half seconds in all, then the source counts as gone. */
export const defaultRetrySeconds = 7.5
