import { parentPort, workerData } from 'node:worker_threads'
import { toCodedError } from '../../core/errors.ts'
import { boundaryEveryBytes } from './boundary.ts'
import type { DecodeStep, NativeDecoder } from './decoder.ts'
import { createNativeDecoder } from './native-decoder.ts'
import type { NativeReply, NativeRequest, NativeWorkerData } from './native-stage.ts'

// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- set by the one who starts this thread
const { inputs: inputSlots, outputs: outputSlots, decoding } = workerData as NativeWorkerData
const outputs = outputSlots.map((slot) => new Uint8Array(slot))
const free = outputs.map((_, index) => index)
const inputs: Uint8Array[] = []
let turn = 0
let last = false
let done = false
/** Bytes already in the output that is being filled, `free[0]`. */
let filled = 0
let decoder: NativeDecoder | undefined
let compressed = 0
let decoded = 0
/** Where the last boundary that was told is. */
let told = 0

const reply = (message: NativeReply): void => parentPort?.postMessage(message)

function takeInput(size: number): void {
  const slot = inputSlots[turn++ % inputSlots.length]
  if (slot) inputs.push(new Uint8Array(slot, 0, size))
}

function emit(): void {
  const slot = free.shift()
  if (slot !== undefined && filled > 0) reply({ type: 'output', slot, size: filled })
  else if (slot !== undefined) free.unshift(slot)
  filled = 0
}

function count({ consumed, produced, begun }: DecodeStep): void {
  compressed += consumed
  decoded += produced
  if (begun === undefined || compressed - begun < told + boundaryEveryBytes) return
  told = compressed - begun
  reply({ type: 'boundary', boundary: { compressed: told, decoded } })
}

/** Decodes until the input is used up or every output waits to be read. */
function pump(): void {
  while (!done) {
    const slot = free[0]
    const output = slot === undefined ? undefined : outputs[slot]
    if (!output || (inputs.length === 0 && !last)) return
    const input = inputs[0] ?? new Uint8Array(0)
    decoder ??= createNativeDecoder(decoding)
    const step = decoder.decode(input, output.subarray(filled), last && inputs.length <= 1)
    filled += step.produced
    count(step)
    if (inputs.length > 0) {
      if (step.consumed === input.length) {
        inputs.shift()
        reply({ type: 'consumed' })
      } else {
        inputs[0] = input.subarray(step.consumed)
      }
    }
    if (filled === output.length) emit()
    if (step.ended) {
      emit()
      done = true
      reply({ type: 'ended' })
    }
  }
}

parentPort?.on('message', (request: NativeRequest) => {
  try {
    if (request.type === 'input') takeInput(request.size)
    else if (request.type === 'last') last = true
    else if (request.type === 'free') free.push(request.slot)
    if (request.type !== 'close') return pump()
    done = true
    decoder?.[Symbol.dispose]()
    parentPort?.close()
  } catch (error) {
    done = true
    const { code, message } = toCodedError(error)
    reply({ type: 'failed', code, message })
  }
})
