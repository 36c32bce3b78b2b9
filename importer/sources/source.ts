import type { Bytes } from '../../core/streams.ts'

/** Where an image comes from. Opened once; the caller disposes it, which closes the connection. */
export interface Source extends AsyncDisposable {
  /** For people and records: no user info, query or fragment. */
  readonly label: string
  /** Bytes that `body` will give, where the source says so; it fails where they differ. */
  readonly length: number | undefined
  /**
   * The bytes, once. A chunk is valid only until the next one is asked for. Throws
   * SOURCE_UNAVAILABLE, SOURCE_TRUNCATED or SOURCE_CHANGED.
   */
  readonly body: Bytes
}
