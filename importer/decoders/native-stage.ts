import { Worker } from 'node:worker_threads'
import { workerUrl } from '../../core/worker-url.ts'
import { reportedError } from '../../core/errors.ts'
import { inPieces, type Bytes } from '../../core/streams.ts'
import type { Boundary, OnBoundary } from './boundary.ts'
import type { NativeDecoding } from './native-decoder.ts'

export interface NativeWorkerData {
  readonly decoding: NativeDecoding
  /** Input goes round in these, in order. */
  readonly inputs: readonly SharedArrayBuffer[]
  readonly outputs: readonly SharedArrayBuffer[]
}

export type NativeRequest =
  /** The next input slot holds so many bytes. */
  | { readonly type: 'input'; readonly size: number }
  /** No more input comes. */
  | { readonly type: 'last' }
  /** The output in this slot was read. */
  | { readonly type: 'free'; readonly slot: number }
  | { readonly type: 'close' }

export type NativeReply =
  | { readonly type: 'output'; readonly slot: number; readonly size: number }
  | { readonly type: 'consumed' }
  /** May come before the output before it. */
  | { readonly type: 'boundary'; readonly boundary: Boundary }
  | { readonly type: 'ended' }
  | { readonly type: 'failed'; readonly code: string; readonly message: string }

const inputBytes = 256 * 1024
const inputCount = 2
const outputBytes = 1024 * 1024
const outputCount = 4

/**
 * Decodes by a library of the system on a thread of its own; no byte goes through a pipe. Throws
 * COMPRESSION_INVALID, SIZE_EXCEEDED, UNAVAILABLE. Streams that begin are told.
 */
export async function* decodeNatively(
  input: Bytes,
  decoding: NativeDecoding,
  onBoundary?: OnBoundary,
): AsyncGenerator<Uint8Array, void> {
  const inputs = Array.from({ length: inputCount }, () => new SharedArrayBuffer(inputBytes))
  const outputs = Array.from({ length: outputCount }, () => new SharedArrayBuffer(outputBytes))
  const workerData: NativeWorkerData = { inputs, outputs, decoding }
  const worker = new Worker(workerUrl('native-worker', import.meta.url), { workerData })
  const send = (request: NativeRequest): void => worker.postMessage(request)
  const decoded: { slot: number; size: number }[] = []
  let inputsWaiting = 0
  let outcome: { readonly error?: unknown } | undefined
  let wakeReader = (): void => {}
  let wakeFeeder = (): void => {}

  function settle(reached: { readonly error?: unknown }): void {
    outcome ??= reached
    wakeReader()
    wakeFeeder()
  }

  worker.on('message', (reply: NativeReply) => {
    switch (reply.type) {
      case 'output':
        decoded.push(reply)
        return wakeReader()
      case 'consumed':
        inputsWaiting--
        return wakeFeeder()
      case 'boundary':
        return onBoundary?.(reply.boundary)
      case 'ended':
        return settle({})
      case 'failed':
        return settle({ error: reportedError(reply.code, reply.message, 'UNKNOWN') })
    }
  })
  worker.on('error', (error) => settle({ error }))
  // Never terminated: liblzma's own threads must end before its code is unloaded.
  const exited = new Promise<void>((resolve) => worker.once('exit', () => resolve()))

  async function feed(): Promise<void> {
    let turn = 0
    for await (const piece of inPieces(input, inputBytes)) {
      while (!outcome && inputsWaiting >= inputCount) {
        await new Promise<void>((resolve) => (wakeFeeder = resolve))
      }
      const slot = inputs[turn++ % inputCount]
      if (outcome || !slot) return
      new Uint8Array(slot).set(piece)
      inputsWaiting++
      send({ type: 'input', size: piece.length })
    }
    send({ type: 'last' })
  }

  void feed().catch((error: unknown) => settle({ error }))
  try {
    for (;;) {
      const output = decoded.shift()
      const slot = output === undefined ? undefined : outputs[output.slot]
      if (output && slot) {
        yield new Uint8Array(slot, 0, output.size)
        send({ type: 'free', slot: output.slot })
      } else if (outcome) {
        if (outcome.error !== undefined) throw outcome.error
        return
      } else {
        await new Promise<void>((resolve) => (wakeReader = resolve))
      }
    }
  } finally {
    // A feeder that waits for a slow source ends when the source is closed.
    settle({})
    send({ type: 'close' })
    await exited
  }
}
