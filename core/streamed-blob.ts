import { parseDigest, type Digest } from './digest.ts'
import { CodedError } from './errors.ts'
import type { BlobWriter, CreateBlobOptions } from './registry.ts'
import {
  cancelUpload,
  endUpload,
  sendUpload,
  startUpload,
  type RemoteBlobDeps,
} from './upload-client.ts'

/** Sent while it is written: one PATCH, then PUT with the digest. No bytes are kept here. */
export async function createStreamedBlob(
  root: string,
  { signal, chunkDigests = false }: CreateBlobOptions,
  { http, hashPool }: RemoteBlobDeps,
): Promise<BlobWriter> {
  let at = await startUpload(root, http, signal)
  const hash = hashPool.hashStream({ chunkDigests })
  const handover = createHandover()
  let sent = 0
  let digest: Digest | undefined
  let ended = false
  const sending = sendUpload(at, handover.chunks, http, signal).finally(handover.stop)
  // Reported by the write that follows, or by finish().
  sending.catch(() => {})

  return {
    async write(chunk) {
      // The socket keeps a chunk longer than the caller does.
      await Promise.all([handover.give(Uint8Array.from(chunk)), hash.write(chunk)])
      if (handover.stopped) await sending
      sent += chunk.length
    },
    prepend: () => Promise.reject(misuse('prepend')),
    readAt: () => Promise.reject(misuse('readAt')),
    file: () => undefined,
    async finish() {
      handover.end()
      at = await sending
      const result = await hash.finish()
      digest = parseDigest(`sha256:${result.hex}`)
      return { digest, size: sent, scratchBytes: 0, chunkDigests: result.chunkDigests }
    },
    async commit() {
      if (!digest) throw misuse('commit')
      await endUpload(at, digest, http, signal)
      ended = true
    },
    async abort() {
      hash[Symbol.dispose]()
      if (ended) return
      ended = true
      handover.fail(new CodedError('CANCELLED', 'the upload was given up'))
      await sending.catch(() => {})
      await cancelUpload(at, http)
    },
  }
}

function misuse(method: string): CodedError {
  return new CodedError('UNKNOWN', `${method} needs readBack or reserveBytes, or finish before it`)
}

/** Hands chunks from a writer to a reader one at a time, so that only one is kept. */
function createHandover() {
  let offered: { chunk: Uint8Array; taken: () => void } | undefined
  let outcome: { error: Error | undefined } | undefined
  let wakeReader = (): void => {}
  let stopped = false

  async function* chunks(): AsyncGenerator<Uint8Array, void> {
    for (;;) {
      if (offered) {
        const { chunk, taken } = offered
        offered = undefined
        yield chunk
        taken()
      } else if (outcome) {
        if (outcome.error) throw outcome.error
        return
      } else {
        await new Promise<void>((resolve) => (wakeReader = resolve))
      }
    }
  }

  function settle(error: Error | undefined): void {
    outcome ??= { error }
    wakeReader()
  }

  const waiting = new Set<() => void>()
  return {
    chunks: chunks(),
    get stopped() {
      return stopped
    },
    /** Resolves when the reader is done with the chunk or stopped reading. */
    give(chunk: Uint8Array): Promise<void> {
      if (stopped || chunk.length === 0) return Promise.resolve()
      return new Promise<void>((resolve) => {
        const taken = (): void => {
          waiting.delete(taken)
          resolve()
        }
        waiting.add(taken)
        offered = { chunk, taken }
        wakeReader()
      })
    },
    end: () => settle(undefined),
    fail: (error: Error) => settle(error),
    stop(): void {
      stopped = true
      for (const taken of waiting) taken()
    },
  }
}
