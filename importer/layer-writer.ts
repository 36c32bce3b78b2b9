import type { Blobs, BlobWriter, CreateBlobOptions, WrittenBlob } from '../core/registry.ts'
import { fileOffset, tarEnd, tarHead } from './layer-tar.ts'

export interface LayerOptions extends Pick<
  CreateBlobOptions,
  'signal' | 'onPush' | 'readBack' | 'resume'
> {
  readonly fileName: string
  /** Bytes of the disk file, where known before it is written; the layer is then hashed on the way. */
  readonly fileSize: number | undefined
  /** Most bytes of `metadata` that `finish` will put before the data. */
  readonly metadataBound: number
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
  /** All that was written is durable: for `resume`, where the registry can. @see BlobWriter */
  checkpoint(): Promise<string | undefined>
  /** Completes the archive: `metadata`, if any, becomes the start of the file. */
  finish(file: {
    readonly size: number
    readonly metadata:
      | { readonly size: number; readonly bytes: AsyncIterable<Uint8Array> }
      | undefined
  }): Promise<WrittenBlob>
  commit(): Promise<void>
}

/** @see docs/stored-image.md for the archive's exact shape */
export async function openLayer(blobs: Blobs, options: LayerOptions): Promise<LayerWriter> {
  const { fileName, fileSize, metadataBound, ...rest } = options
  const layerSize = (size: number): number => fileOffset + size + tarEnd(size).length
  const headFirst = fileSize !== undefined && metadataBound === 0
  const blob: BlobWriter = await blobs.create({
    ...rest,
    chunkDigests: true,
    reserveBytes: headFirst ? 0 : fileOffset + metadataBound,
    expectedBytes: headFirst ? layerSize(fileSize) : undefined,
  })
  if (headFirst && options.resume === undefined) await blob.write(tarHead(fileName, fileSize))
  return {
    write: (chunk) => blob.write(chunk),
    readAt: (offset, length) => blob.readAt(headFirst ? fileOffset + offset : offset, length),
    checkpoint: () => blob.checkpoint(),
    async finish({ size, metadata }) {
      await blob.write(tarEnd(size))
      if (!headFirst) {
        async function* head(): AsyncGenerator<Uint8Array, void> {
          yield tarHead(fileName, size)
          if (metadata) yield* metadata.bytes
        }
        await blob.prepend(fileOffset + (metadata?.size ?? 0), head())
      }
      return blob.finish()
    },
    commit: () => blob.commit(),
    [Symbol.asyncDispose]: () => blob.abort({ keep: true }),
  }
}
