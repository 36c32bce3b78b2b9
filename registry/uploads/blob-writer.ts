import type { HashPool } from '../../core/hash-pool.ts'
import type { BlobWriter, CreateBlobOptions } from '../../core/registry.ts'
import { createScratchBlob, type FinishedScratch } from '../../core/scratch-blob.ts'
import { createFileBlob } from './file-blob.ts'
import { requireQuota, requireRoom } from './room.ts'
import type { SessionParts, Sessions } from './sessions.ts'
import { createStreamBlob } from './stream-blob.ts'

export interface BlobWriterParts extends Omit<SessionParts, 'objects'> {
  readonly sessions: Sessions
  readonly hashPool: HashPool
  /** For blobs that are not written in order, where the storage can only do that. */
  readonly scratchFolder: string
}

/**
 * A blob written by this process. What a crash leaves of it is removed by the sweep of sessions.
 * Throws STORAGE_FULL or QUOTA_EXCEEDED before the start where `expectedBytes` would not fit.
 */
export async function createBlobWriter(
  name: string,
  options: CreateBlobOptions,
  parts: BlobWriterParts,
): Promise<BlobWriter> {
  const { signal, reserveBytes = 0, readBack = false, expectedBytes = 0 } = options
  const { data, files, index } = parts
  signal.throwIfAborted()
  if (files) return createFileBlob(name, options, { ...parts, files })
  await requireRoom(data, expectedBytes)
  if (reserveBytes === 0 && !readBack) return createStreamBlob(name, options, parts)

  await requireQuota(name, expectedBytes, parts.reservations)
  async function send({ digest, size, contents }: FinishedScratch): Promise<void> {
    if (await index.link(name, digest)) return
    const blob = await createStreamBlob(name, { signal, expectedBytes: size }, parts)
    try {
      for await (const chunk of contents()) await blob.write(chunk)
      await blob.finish()
      await blob.commit()
    } catch (error) {
      await blob.abort()
      throw error
    }
  }
  return createScratchBlob(options, { ...parts, send })
}
