/** Cluster size of the images we write. */
export const clusterBytes = 64 * 1024
/** Guest bytes that one thread encodes at a time; also the chunk of the content digest. */
export const batchBytes = 4 * 1024 * 1024
export const clustersPerBatch = batchBytes / clusterBytes

/** zstd level of the clusters we write: higher ones cost more time than they save bytes. */
export const zstdLevel = 1
/** A longer frame is not worth a read's decompression: the cluster is stored plain. */
export const largestFrameBytes = 60 * 1024

/** What a thread is asked to encode in place. */
export interface ClusterRequest {
  /** `batchBytes` long; a cluster that is not in `isData` holds anything. */
  readonly buffer: SharedArrayBuffer
  /** By cluster: 1 where it holds data, 0 where it is all zero. */
  readonly isData: Uint8Array
  /** Bytes of the batch within the virtual size; more than 0. */
  readonly size: number
}

/** The data clusters in guest order, back to back from the start of the request's buffer. */
export interface EncodedBatch {
  /** Stored bytes by cluster: 0 all zero, `clusterBytes` stored plain, else one zstd frame. */
  readonly sizes: Uint32Array
  /** sha256 of the batch's `size` bytes. */
  readonly digest: Uint8Array
}
