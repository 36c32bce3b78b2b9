/** A small object and the version that `etag` names. */
export interface SmallObject {
  readonly bytes: Uint8Array
  /** Changes whenever the bytes change; opaque. */
  readonly etag: string
}

/** What a write demands of what is there: nothing, exactly that version, or anything. */
export type PutCondition = 'ifAbsent' | 'always' | { readonly ifMatch: string }

/** One page of a listing; `after` is exclusive, `limit` the most entries returned. */
export interface ListOptions {
  readonly after?: string | undefined
  readonly limit?: number | undefined
}

/**
 * Small objects (records, pointers, manifests; up to a few MiB) under `/`-separated keys of
 * letters, digits, `.`, `_` and `-`. No key is also the folder of another key. A write is durable
 * and visible in one atomic step when it resolves.
 */
export interface ObjectStore {
  get(key: string): Promise<SmallObject | undefined>
  /** Resolves to the new etag; `undefined` where `condition` did not hold and nothing was written. */
  put(key: string, bytes: Uint8Array, condition: PutCondition): Promise<string | undefined>
  /** Keys below `folder` (which ends in `/`; `''`: all keys) in byte order, at any depth. */
  list(folder: string, options: ListOptions): Promise<string[]>
  /**
   * Names of the folders directly in `folder`, in the byte order of the keys they begin (`a-b`
   * before `a`); some may hold nothing any more.
   */
  listFolders(folder: string): Promise<string[]>
  /** False where there was nothing, or not the version `ifMatch`, which then stays. */
  delete(key: string, condition?: { readonly ifMatch: string }): Promise<boolean>
  /**
   * True where `delete` looks at `ifMatch` and deletes in one atomic step. Else a version written
   * between the two may be lost, and dead records stay until nobody writes them any more.
   */
  readonly conditionalDelete: boolean
}
