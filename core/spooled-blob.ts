import type { Digest } from './digest.ts'
import { CodedError } from './errors.ts'
import type { BlobWriter, CreateBlobOptions } from './registry.ts'
import { retried } from './retry.ts'
import { createScratchBlob } from './scratch-blob.ts'
import { endUpload, sendUpload, startUpload, type RemoteBlobDeps } from './upload-client.ts'

/** A push from the scratch file can start again, so a registry that blinks does not cost the import. */
const retryDelaysMs = [1000, 5000]

/** Kept in a scratch file until `commit` sends it; a blob the registry has already is not sent. */
export function createSpooledBlob(
  root: string,
  options: CreateBlobOptions,
  { http, hashPool, scratchFolder }: RemoteBlobDeps,
): Promise<BlobWriter> {
  const { signal } = options

  async function push(digest: Digest, contents: () => AsyncIterable<Uint8Array>): Promise<void> {
    const known = await http.send(`${root}/blobs/${digest}`, { method: 'HEAD', accept: [200, 404] })
    await known.body.dump()
    if (known.statusCode === 200) return
    const at = await sendUpload(await startUpload(root, http, signal), contents(), http, signal)
    await endUpload(at, digest, http, signal)
  }

  return createScratchBlob(options, {
    hashPool,
    scratchFolder,
    send: ({ digest, contents }) =>
      retried(() => push(digest, contents), {
        delaysMs: retryDelaysMs,
        signal,
        shouldRetry: (error) => error instanceof CodedError && error.code === 'TARGET_UNAVAILABLE',
      }),
  })
}
