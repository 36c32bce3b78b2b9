import type { Descriptor, Digest } from './digest.ts'
import { CodedError } from './errors.ts'
import type { Reference } from './reference.ts'

/** Half-open byte range `[start, end)`. */
export interface ByteRange {
  readonly start: number
  readonly end: number
}

export interface StoredManifest extends Descriptor {
  /** The exact bytes as pushed. */
  readonly bytes: Uint8Array
  /** For the `Warning` header of the answer: a mirror could not ask its upstream. */
  readonly warning?: string
}

/** One page of names in byte order; `last` is exclusive, `limit` the most entries returned. */
export interface Page {
  readonly last?: string | undefined
  readonly limit?: number | undefined
}

/** What a finished blob is: its digest and, where asked for, the sha256 of every 4 MiB of it. */
export interface WrittenBlob {
  readonly digest: Digest
  readonly size: number
  /** Bytes of temporary files beside the store that it took. */
  readonly scratchBytes: number
  /** 32 bytes per 4 MiB chunk in order, the last chunk shorter; empty unless `chunkDigests`. */
  readonly chunkDigests: Uint8Array
}

/** A file of this machine that holds a blob from byte `start` on. */
export interface BlobFile {
  readonly path: string
  readonly start: number
}

export interface CreateBlobOptions {
  readonly signal: AbortSignal
  /**
   * Room kept free before the first written byte, filled by `prepend`. 0 (default) where the blob
   * is written from its first byte on; an upper bound elsewhere, it costs no storage.
   */
  readonly reserveBytes?: number
  /** Length the blob will have, where known: storage is checked for it before the start. */
  readonly expectedBytes?: number | undefined
  /** Also hash every 4 MiB of the blob. */
  readonly chunkDigests?: boolean
  /** `readAt` will be used. A registry on another machine then keeps the bytes here until `commit`. */
  readonly readBack?: boolean
  /** An answer of `checkpoint`, of this or another process: goes on there. */
  readonly resume?: string | undefined
  /** Called while `commit` moves bytes to another machine: how many so far, of how many. */
  readonly onPush?: (bytes: number, totalBytes: number) => void
}

/**
 * One blob on its way into a repository. Nothing of it is visible before `commit`. One caller,
 * one call at a time; always ended by `commit` or `abort`.
 */
export interface BlobWriter {
  /** Appends; the bytes may be reused by the caller once it resolves. */
  write(chunk: Uint8Array): Promise<void>
  /** Puts exactly `size` bytes right before the first written byte; once, at most `reserveBytes`. */
  prepend(size: number, head: AsyncIterable<Uint8Array>): Promise<void>
  /**
   * Bytes written so far, counted from the first `write` (what was prepended is before it); fewer
   * than `length` at the end. Only with `readBack` or `reserveBytes`; also while `commit` runs.
   * What was prepended lies at negative offsets.
   */
  readAt(offset: number, length: number): Promise<Uint8Array>
  /**
   * All that was written is durable; the answer is for `resume`. Missing where this registry keeps
   * nothing of a blob that is not committed.
   */
  checkpoint?(): Promise<string>
  /** Hashes what is not hashed yet; nothing may be written after it. */
  finish(): Promise<WrittenBlob>
  /**
   * After `finish` and until `commit`: where its bytes lie on this machine, to be read only;
   * `undefined` where they are elsewhere, as with what goes to a bucket while it is written.
   */
  file(): BlobFile | undefined
  /** After `finish`: durable and readable in the repository by its digest, in one atomic step. */
  commit(): Promise<void>
  /**
   * Forgets the blob; safe after `commit` (then it does nothing) and more than once. `keep`: what
   * the last `checkpoint` covers stays for `resume`, until the store's limit for idle uploads.
   */
  abort(options?: { readonly keep?: boolean }): Promise<void>
}

export interface Blobs {
  stat(digest: Digest): Promise<{ readonly size: number } | undefined>
  /** Throws BLOB_UNKNOWN; chunks are only valid until the next one is asked for. */
  read(
    digest: Digest,
    options: { readonly range?: ByteRange | undefined; readonly signal: AbortSignal },
  ): AsyncIterable<Uint8Array>
  /** Throws BLOB_UPLOAD_UNKNOWN where `resume` is of a blob that is gone or not like this one. */
  create(options: CreateBlobOptions): Promise<BlobWriter>
  /** Removes what a `checkpoint` keeps of a blob that is not committed; nothing where it is gone. */
  forget(resume: string): Promise<void>
  /** Removes the blob from this repository; false where it was not there. */
  delete(digest: Digest): Promise<boolean>
}

export interface PutManifestOptions {
  /** Tag to point at it. Without one it is stored by digest only. */
  readonly tag?: string | undefined
  /** False: an existing tag that points elsewhere is refused with TAG_EXISTS. */
  readonly replace: boolean
}

/** What `replace: false` is refused with: the tag points to `digest`. */
export function tagExists(name: string, tag: string, digest: Digest): CodedError {
  return new CodedError(
    'TAG_EXISTS',
    `${name}:${tag} exists already (${digest}); choose another tag or replace it with --replace`,
    { detail: { name, tag, digest } },
  )
}

export interface Manifests {
  get(reference: Reference): Promise<StoredManifest | undefined>
  put(
    manifest: { readonly mediaType: string; readonly bytes: Uint8Array },
    options: PutManifestOptions,
  ): Promise<Descriptor>
  /**
   * A tag: only the tag. A digest: the manifest and every tag that points to it. With `reclaim` a
   * manifest goes with its last tag, and what only it referred to goes at once, where the registry
   * can do that.
   */
  delete(reference: Reference, options?: { readonly reclaim?: boolean }): Promise<boolean>
}

export interface Repository {
  readonly name: string
  readonly blobs: Blobs
  readonly manifests: Manifests
  /** Tags in byte order; throws NAME_UNKNOWN where the repository holds nothing. */
  listTags(page: Page): Promise<string[]>
}

/**
 * An OCI registry: the store of this process or another one over HTTP. Both pass
 * `test/registry-contract.ts`.
 */
export interface Registry {
  /** Throws NAME_INVALID. */
  repository(name: string): Repository
  /** Names of repositories that hold at least one manifest, in byte order. */
  listRepositories(page: Page): Promise<string[]>
}
