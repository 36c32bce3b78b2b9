import { createHash } from 'node:crypto'
import { answerRequests } from '../core/thread-pool.ts'
import {
  clusterBytes,
  type ClusterRequest,
  type EncodedBatch,
  largestFrameBytes,
  zstdLevel,
} from './cluster-batch.ts'
import { createZstdCompressor, frameBound } from './zstd-codec.ts'

const compressor = createZstdCompressor(zstdLevel)
const frame = new Uint8Array(frameBound(clusterBytes))
const zeros = new Uint8Array(clusterBytes)

/** Hashes the batch, then packs its clusters to the front: what is stored is never longer. */
function encode({ buffer, isData, size }: ClusterRequest): EncodedBatch {
  const bytes = new Uint8Array(buffer)
  const hash = createHash('sha256')
  for (let start = 0; start < size;) {
    const isRunOfData = isData[start / clusterBytes] === 1
    let end = start + clusterBytes
    while (isRunOfData && end < size && isData[end / clusterBytes] === 1) end += clusterBytes
    hash.update(
      isRunOfData ? bytes.subarray(start, Math.min(end, size)) : zeros.subarray(0, size - start),
    )
    start = end
  }

  const sizes = new Uint32Array(isData.length)
  let packed = 0
  for (let cluster = 0; cluster < isData.length; cluster++) {
    if (isData[cluster] !== 1) continue
    const start = cluster * clusterBytes
    const source = bytes.subarray(start, start + clusterBytes)
    const frameBytes = compressor.compress(source, frame)
    if (frameBytes <= largestFrameBytes) bytes.set(frame.subarray(0, frameBytes), packed)
    else if (packed !== start) bytes.copyWithin(packed, start, start + clusterBytes)
    const stored = frameBytes <= largestFrameBytes ? frameBytes : clusterBytes
    sizes[cluster] = stored
    packed += stored
  }
  return { sizes, digest: hash.digest() }
}

answerRequests(encode)
