import type { FileHash, HashOptions } from '../core/hash-pool.ts'

/** The bytes of one data object; positions count from the file's start. */
export interface DataFile extends AsyncDisposable {
  write(position: number, bytes: Uint8Array): Promise<void>
  /** Fills `buffer` from `position` on and returns how many bytes there were. */
  read(position: number, buffer: Uint8Array): Promise<number>
  truncate(size: number): Promise<void>
  /** The object and everything written to it survive a power cut once it resolves. */
  sync(): Promise<void>
  /** Hashes from `start` on while the file grows, on another thread. */
  follow(options: HashOptions & { readonly start: number }): FileHash
}

/** Large objects: appended to once, then only read. */
export interface DataStore {
  /** Creates an empty object, or opens the one of that key to go on writing. */
  openForWrite(key: string): Promise<DataFile>
  /** `undefined` where there is none. */
  openForRead(key: string): Promise<DataFile | undefined>
  /** False where there was nothing. */
  delete(key: string): Promise<boolean>
  /** Bytes that can still be stored. */
  freeBytes(): Promise<number>
}
