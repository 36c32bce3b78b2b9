import { CodedError } from '../core/errors.ts'
import type {
  BlobFile,
  Blobs,
  BlobWriter,
  CreateBlobOptions,
  WrittenBlob,
} from '../core/registry.ts'
import { keepPieces, readPieces, type KeptPieces, type PieceStore } from './layer-pieces.ts'
import { fileOffset, tarEnd, tarHead } from './layer-tar.ts'

export interface LayerOptions extends Pick<CreateBlobOptions, 'signal' | 'onPush' | 'readBack'> {
  readonly fileName: string
  /** Bytes of the disk file, where known before it is written; the layer is then hashed on the way. */
  readonly fileSize: number | undefined
  /** Where the layer is kept if its registry does not do that. */
  readonly pieces: PieceStore | undefined
  /** What was kept of it. */
  readonly resume: KeptLayer | undefined
  /** Most bytes of `metadata` that `finish` will put before the data. */
  readonly metadataBound: number
}

/** What is kept of a layer that is not committed: by its registry, or in pieces. */
export interface KeptLayer {
  /** For `CreateBlobOptions.resume`. */
  readonly blob?: string | undefined
  /** Of the disk file, without its metadata. */
  readonly pieces?: KeptPieces | undefined
}

/**
 * A layer with one disk file on its way into a repository; disposing it forgets what is not
 * committed, but for what a checkpoint covers.
 */
export interface LayerWriter extends AsyncDisposable {
  /** Appends to the disk file (after its metadata, where there is some). */
  write(chunk: Uint8Array): Promise<void>
  /** Bytes of the disk file counted from the first `write`. */
  readAt(offset: number, length: number): Promise<Uint8Array>
  /**
   * What was written so far is to be kept for `resume`; the answer does what is left to do for that,
   * beside further writes. One at a time; only with `pieces`.
   */
  checkpoint(): Promise<(signal: AbortSignal) => Promise<KeptLayer>>
  /** Completes the archive: `metadata`, if any, becomes the start of the file. */
  finish(file: {
    readonly size: number
    readonly metadata:
      | { readonly size: number; readonly bytes: AsyncIterable<Uint8Array> }
      | undefined
  }): Promise<WrittenBlob>
  /**
   * After `finish`: bytes of the file, counted from its start. Where `isKept`, before `commit`;
   * else they have gone to the registry already, and are read from there after it.
   */
  readFile(offset: number, length: number): Promise<Uint8Array>
  readonly isKept: boolean
  /** After `finish`: the disk file on this machine, where it is here. @see BlobWriter.file */
  file(): BlobFile | undefined
  commit(): Promise<void>
}

/** @see docs/stored-image.md for the archive's exact shape */
export async function openLayer(blobs: Blobs, options: LayerOptions): Promise<LayerWriter> {
  const { fileName, fileSize, metadataBound, pieces, resume, ...rest } = options
  const layerSize = (size: number): number => fileOffset + size + tarEnd(size).length
  const headFirst = fileSize !== undefined && metadataBound === 0
  const blob: BlobWriter = await blobs.create({
    ...rest,
    chunkDigests: true,
    reserveBytes: headFirst ? 0 : fileOffset + metadataBound,
    // What will be left of other disks is not known, but that it is not nothing.
    expectedBytes: headFirst ? layerSize(fileSize) : fileOffset,
    readBack: options.readBack === true || pieces !== undefined,
    resume: resume?.blob,
  })
  const isKept = !headFirst || options.readBack === true || pieces !== undefined
  let written: WrittenBlob | undefined
  let metadataSize = 0
  let size = 0
  let kept = resume?.pieces ?? { pieces: 0, bytes: 0 }

  const readAt = (offset: number, length: number): Promise<Uint8Array> =>
    blob.readAt(headFirst ? fileOffset + offset : offset, length)

  async function write(chunk: Uint8Array): Promise<void> {
    await blob.write(chunk)
    size += chunk.length
  }

  if (headFirst && resume?.blob === undefined) await blob.write(tarHead(fileName, fileSize))
  if (pieces && resume?.pieces) {
    for await (const piece of readPieces(resume.pieces, pieces)) await write(piece)
  }
  return {
    isKept,
    write,
    readAt,
    async checkpoint() {
      if (blob.checkpoint) {
        const token = await blob.checkpoint()
        return async () => ({ blob: token })
      }
      if (!pieces) throw new Error('a layer without pieces is not kept')
      const end = size
      return async (signal) => {
        kept = await keepPieces(kept, end, { store: pieces, readAt, signal })
        return { pieces: kept }
      }
    },
    async finish({ size, metadata }) {
      await blob.write(tarEnd(size))
      if (!headFirst) {
        async function* head(): AsyncGenerator<Uint8Array, void> {
          yield tarHead(fileName, size)
          if (metadata) yield* metadata.bytes
        }
        metadataSize = metadata?.size ?? 0
        await blob.prepend(fileOffset + metadataSize, head())
      }
      written = await blob.finish()
      return written
    },
    async readFile(offset, length) {
      if (isKept) return blob.readAt((headFirst ? fileOffset : -metadataSize) + offset, length)
      if (!written) throw new CodedError('UNKNOWN', 'readFile needs finish before it')
      const start = fileOffset + offset
      const range = { start, end: Math.min(start + length, written.size) }
      const chunks: Uint8Array[] = []
      for await (const chunk of blobs.read(written.digest, { range, signal: options.signal })) {
        chunks.push(Uint8Array.from(chunk))
      }
      return Buffer.concat(chunks)
    },
    file() {
      const file = blob.file()
      return file && { ...file, start: file.start + fileOffset }
    },
    commit: () => blob.commit(),
    [Symbol.asyncDispose]: () => blob.abort({ keep: true }),
  }
}
