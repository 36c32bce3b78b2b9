/** Which clusters of a file hold data, by whole ones and by compressed ones: two bits for each. */
export interface ClusterClaims {
  /** False where the cluster at byte `start` is claimed already. */
  claimWhole(start: number): boolean
  /** False where one of the clusters of `[start, end)` is claimed as a whole; they share others. */
  claimPart(start: number, end: number): boolean
}

/** What lies behind `fileSize` bytes can be claimed any number of times. */
export function createClusterClaims(fileSize: number, clusterSize: number): ClusterClaims {
  const bytes = Math.ceil(fileSize / clusterSize / 8)
  const wholes = new Uint8Array(bytes)
  const parts = new Uint8Array(bytes)
  const has = (bits: Uint8Array, cluster: number): boolean =>
    ((bits[Math.floor(cluster / 8)] ?? 0) & (1 << (cluster % 8))) !== 0
  const set = (bits: Uint8Array, cluster: number): void => {
    const at = Math.floor(cluster / 8)
    if (at < bytes) bits[at] = (bits[at] ?? 0) | (1 << (cluster % 8))
  }
  return {
    claimWhole(start) {
      const cluster = start / clusterSize
      if (has(wholes, cluster) || has(parts, cluster)) return false
      set(wholes, cluster)
      return true
    },
    claimPart(start, end) {
      for (let at = start - (start % clusterSize); at < end; at += clusterSize) {
        if (has(wholes, at / clusterSize)) return false
        set(parts, at / clusterSize)
      }
      return true
    },
  }
}
