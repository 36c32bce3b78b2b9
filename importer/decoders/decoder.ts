/** What one call of `decode` did. */
export interface DecodeStep {
  readonly consumed: number
  readonly produced: number
  /** All is decoded and the input was proven to end here. */
  readonly ended: boolean
  /**
   * So many of the bytes consumed last begin a stream that needs nothing of what came before, which
   * is proven and given out. `undefined` where none begins.
   */
  readonly begun?: number | undefined
}

/** One compressed file being decoded; disposing it frees what it holds. */
export interface NativeDecoder extends Disposable {
  /**
   * Decodes from `input` into `output` as far as both reach; `last` says that no more input comes.
   * Throws COMPRESSION_INVALID, also for bytes behind the end.
   */
  decode(input: Uint8Array, output: Uint8Array, last: boolean): DecodeStep
}
