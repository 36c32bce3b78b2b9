import { CodedError } from './errors.ts'
import type { BlobWriter, CreateBlobOptions } from './registry.ts'
import { pause } from './retry.ts'
import { createScratchBlob, type FinishedScratch } from './scratch-blob.ts'
import {
  askUpload,
  cancelUpload,
  endUpload,
  sendUpload,
  startUpload,
  type RemoteBlobDeps,
} from './upload-client.ts'

/** Waits before the next try, over a registry that restarts; from the first again after progress. */
const retryDelaysMs: readonly number[] = [500, 2000, 5000, 10_000, 15_000]

/** Sent at a time to a registry that has lost all of a longer request that broke. */
const pieceBytes = 32 * 1024 * 1024

/**
 * Kept in a scratch file until `commit` sends it; a blob the registry has already is not sent. A
 * push that breaks goes on where the registry has got to.
 */
export function createSpooledBlob(
  root: string,
  options: CreateBlobOptions,
  { http, hashPool, scratchFolder }: RemoteBlobDeps,
): Promise<BlobWriter> {
  const { signal } = options

  async function isKnown(digest: string): Promise<boolean> {
    const { statusCode, body } = await http.send(`${root}/blobs/${digest}`, {
      method: 'HEAD',
      signal,
      accept: [200, 404],
    })
    await body.dump()
    return statusCode === 200
  }

  async function send({ digest, size, contents }: FinishedScratch): Promise<void> {
    let upload: { at: string; offset: number } | undefined
    let failures = 0
    let mostBytes = Infinity

    async function attempt(): Promise<void> {
      // Also where the answer to its end was lost.
      if (await isKnown(digest)) return
      const begun = upload && (await askUpload(upload.at, http, signal))
      if (begun && begun.offset > (upload?.offset ?? 0)) failures = 0
      else if (upload) mostBytes = pieceBytes
      if (upload && !begun) await cancelUpload(upload.at, http)
      upload = begun ?? { at: await startUpload(root, http, signal), offset: 0 }
      while (upload.offset < size || size === 0) {
        const { at, offset }: typeof upload = upload
        const end = Math.min(size, offset + mostBytes)
        const isWhole = offset === 0 && end === size
        const range = isWhole ? undefined : { start: offset, end }
        upload = {
          at: await sendUpload(at, contents(offset, end), http, signal, range),
          offset: end,
        }
        failures = 0
        if (end === size) break
      }
      await endUpload(upload.at, digest, http, signal)
    }

    async function keepTrying(): Promise<void> {
      for (;;) {
        try {
          return await attempt()
        } catch (error) {
          const delayMs = retryDelaysMs[failures++]
          if (delayMs === undefined || !mayPass(error, upload !== undefined)) throw error
          await pause(delayMs, signal)
        }
      }
    }

    await keepTrying().catch(async (error: unknown) => {
      if (upload) await cancelUpload(upload.at, http)
      throw error
    })
  }

  return createScratchBlob(options, { hashPool, scratchFolder, send })
}

/** Who was let in and is no longer may only have a login that is replaced just now. */
function mayPass(error: unknown, wasLetIn: boolean): boolean {
  if (!(error instanceof CodedError)) return false
  return error.code === 'TARGET_UNAVAILABLE' || (error.code === 'UNAUTHORIZED' && wasLetIn)
}
