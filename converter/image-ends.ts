/** What is known of an image once all of it has passed. */
export interface ImageEnds {
  /** Its first `headBytes`, fewer where it is shorter. */
  readonly head: Uint8Array
  /** Its last `tailBytes`, fewer where it is shorter. */
  readonly tail: Uint8Array
  /** All its bytes. */
  readonly length: number
}
