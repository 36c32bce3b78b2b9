/** What one call of `decode` did. */
export interface DecodeStep {
  readonly consumed: number
  readonly produced: number
  /** All is decoded and the input was proven to end here. */
  readonly ended: boolean
}

/** One compressed file being decoded; disposing it frees what it holds. */
export interface NativeDecoder extends Disposable {
  /**
   * Decodes from `input` into `output` as far as both reach; `last` says that no more input comes.
   * Throws COMPRESSION_INVALID, also for bytes behind the end.
   */
  decode(input: Uint8Array, output: Uint8Array, last: boolean): DecodeStep
}
