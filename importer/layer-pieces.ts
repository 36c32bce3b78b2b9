/** Where bytes of a layer are kept that its registry does not keep before the commit. */
export interface PieceStore {
  putPiece(index: number, bytes: Uint8Array): Promise<void>
  /** Rejects where it is missing. */
  getPiece(index: number): Promise<Uint8Array>
}

/** Pieces `0` to `pieces`, exclusive, hold the first `bytes` bytes. */
export interface KeptPieces {
  readonly pieces: number
  readonly bytes: number
}

const pieceBytes = 4 * 1024 * 1024

/** Keeps what `kept` lacks of the first `end` bytes; pieces are only added. */
export async function keepPieces(
  kept: KeptPieces,
  end: number,
  {
    store,
    readAt,
    signal,
  }: {
    readonly store: PieceStore
    readonly readAt: (offset: number, length: number) => Promise<Uint8Array>
    readonly signal: AbortSignal
  },
): Promise<KeptPieces> {
  let { pieces, bytes } = kept
  while (bytes < end) {
    signal.throwIfAborted()
    const piece = await readAt(bytes, Math.min(pieceBytes, end - bytes))
    await store.putPiece(pieces, piece)
    pieces++
    bytes += piece.length
  }
  return { pieces, bytes }
}

/** The bytes that are kept, in order. */
export async function* readPieces(
  { pieces }: KeptPieces,
  store: PieceStore,
): AsyncGenerator<Uint8Array, void> {
  for (let index = 0; index < pieces; index++) yield await store.getPiece(index)
}
