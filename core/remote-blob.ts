import type { BlobWriter, CreateBlobOptions } from './registry.ts'
import { createSpooledBlob } from './spooled-blob.ts'
import { createStreamedBlob } from './streamed-blob.ts'
import type { RemoteBlobDeps } from './upload-client.ts'

/**
 * A blob on its way to another registry: sent as it is written where it is written from its first
 * byte on, else kept in a scratch file until `commit`. `root` is `/v2/<name>`.
 */
export function createRemoteBlob(
  root: string,
  options: CreateBlobOptions,
  deps: RemoteBlobDeps,
): Promise<BlobWriter> {
  const spooled = (options.reserveBytes ?? 0) > 0 || options.readBack === true
  return spooled ? createSpooledBlob(root, options, deps) : createStreamedBlob(root, options, deps)
}
