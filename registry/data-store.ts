import type { Digest, DigestAlgorithm } from '../core/digest.ts'
import type { FileHash, HashOptions, HashResult } from '../core/hash-pool.ts'
import type { ObjectStore } from '../core/object-store.ts'
import type { ByteRange } from '../core/registry.ts'
import type { Checkpoint } from './records.ts'

/**
 * Bytes that a blob is made of: one data object, or several where one would be too large. All of
 * them together are one run of bytes; positions count from its start.
 */
export interface StoredData {
  /** UUID of the first object; the others are `<data>.1`, `<data>.2`, … */
  readonly data: string
  /** Lengths of the objects in order; without it there is one. */
  readonly segments?: readonly number[] | undefined
}

export interface WriteOptions {
  /** The object that an earlier writer, in any process, has left; without it a new one. */
  readonly from?: Checkpoint | undefined
  /** Length the whole data object will have, where known: parts are made to fit. */
  readonly expectedBytes?: number | undefined
  /** The digest to compute while the bytes come. */
  readonly algorithm: DigestAlgorithm
  /** Also hash every 4 MiB; only without `from`. */
  readonly chunkDigests?: boolean
  /**
   * Records a checkpoint, about every 32 MiB while bytes come, one call at a time and in order of
   * `offset`. The writer never takes more than 64 MiB beyond what is recorded; where recording
   * fails it takes nothing more, and its next call rejects with that reason.
   */
  readonly record: (checkpoint: Checkpoint) => Promise<void>
}

/** Appends to one data object. One caller, one call at a time. */
export interface DataWriter extends AsyncDisposable {
  /** Position behind the last byte taken. */
  readonly end: number
  /** Has copied or stored the chunk when it resolves; waits for memory and for slow storage. */
  write(chunk: Uint8Array): Promise<void>
  /** All bytes taken are durable; another writer can go on there. */
  checkpoint(): Promise<Checkpoint>
  /**
   * Forgets what was taken after `to`, a checkpoint of this writer or the one it began with; also
   * after a failed `write` or `finish`, which are then as if they had not been.
   */
  rollback(to: Checkpoint): Promise<void>
  /** Digest of all bytes taken, by the algorithm of the options. Nothing is written after it. */
  digest(): Promise<HashResult>
  /**
   * All bytes are durable and have the digest `expected`, of any algorithm; else DIGEST_INVALID.
   * Nothing is written after it. The data is readable after `DataStore.complete` with the answer.
   */
  finish(expected: Digest): Promise<Checkpoint>
  /** Stops what is at work and lets go of memory and files. The data stays for another writer. */
  [Symbol.asyncDispose](): Promise<void>
}

/** Large objects: appended to once, then only read. `uuid` names one and is never used again. */
export interface DataStore {
  /**
   * Opens for writing at `from.offset`; bytes that an earlier writer left behind it are of no
   * consequence. That writer may still be at work in another process and not know of this one:
   * nothing it does from now on may show in what this one finishes.
   */
  write(uuid: string, options: WriteOptions): Promise<DataWriter>
  /**
   * Makes the object of a finished writer readable. May be repeated, in any process, also while
   * another one does the same; `undefined` where it was deleted since.
   */
  complete(uuid: string, finished: Checkpoint): Promise<StoredData | undefined>
  /** Throws UNKNOWN where bytes are missing. A chunk is valid until the next one is asked for. */
  read(where: StoredData, range: ByteRange, signal: AbortSignal): AsyncIterable<Uint8Array>
  /** Removes it, also what unfinished writers left (`checkpoint`); false where nothing was there. */
  delete(where: StoredData & { readonly checkpoint?: Checkpoint | undefined }): Promise<boolean>
  /** Bytes that can still be stored; Infinity where nobody knows. */
  freeBytes(): Promise<number>
  /**
   * A URL that anyone can GET the whole of `where` from for `lifetimeS` seconds; `undefined` where
   * the storage has none for it.
   */
  redirect(
    where: StoredData,
    options: { readonly lifetimeS: number; readonly contentType: string },
  ): Promise<string | undefined>
}

/** A data object that can be written anywhere; positions count from the file's start. */
export interface DataFile extends AsyncDisposable {
  readonly path: string
  write(position: number, bytes: Uint8Array): Promise<void>
  /** Fills `buffer` from `position` on and returns how many bytes there were. */
  read(position: number, buffer: Uint8Array): Promise<number>
  /** The object and everything written to it survive a power cut once it resolves. */
  sync(): Promise<void>
  /** Hashes from `start` on while the file grows, on another thread. */
  follow(options: HashOptions & { readonly start: number }): FileHash
}

/** What only storage made of files can do. */
export interface DataFiles {
  /** Creates an empty data object. */
  create(uuid: string): Promise<DataFile>
  /**
   * One that was left, of which `size` bytes are durable: what lies behind them is cut off.
   * `undefined` where it has not so many.
   */
  open(uuid: string, size: number): Promise<DataFile | undefined>
}

/** Where a store keeps its bytes. */
export interface Storage extends AsyncDisposable {
  readonly objects: ObjectStore
  readonly data: DataStore
  /** Where it is made of files. */
  readonly files: DataFiles | undefined
  /** Only this process uses it: whatever else was at work on it is dead. */
  readonly isOwned: boolean
}
