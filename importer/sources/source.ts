import type { ByteRange } from '../../core/registry.ts'
import type { Bytes } from '../../core/streams.ts'

/** A place in a content that was read before. */
export interface SourcePlace {
  /** Bytes before it. */
  readonly offset: number
  /** `Source.pin` of the content, and its length in bytes. */
  readonly pin: string
  readonly length: number
}

/** Reads any part of a content of known length. */
export type ReadRange = (range: ByteRange) => Bytes

/** Where an image comes from. Opened once; the caller disposes it, which closes the connection. */
export interface Source extends AsyncDisposable {
  /** For people and records: no user info, query or fragment. */
  readonly label: string
  /** Bytes of the whole content, where the source says so; `body` fails where they differ. */
  readonly length: number | undefined
  /** Names the content: while it stays the same, so do the bytes. `undefined` where nothing does. */
  readonly pin: string | undefined
  /** Where `body` begins: 0, or the place that was asked for where the content is still that one. */
  readonly offset: number
  /**
   * The bytes, once. A chunk is valid only until the next one is asked for. Throws
   * SOURCE_UNAVAILABLE, SOURCE_TRUNCATED or SOURCE_CHANGED.
   */
  readonly body: Bytes
  /**
   * Some bytes in order, as often as asked, of the content that `pin` names; several connections may
   * be used. Missing where only all of it can be had. Throws as `body`.
   */
  readonly readRange?: ReadRange | undefined
}
