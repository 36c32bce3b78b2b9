import { CodedError } from '../core/errors.ts'
import type { Bytes } from '../core/streams.ts'
import { createParking } from './parking.ts'
import { createRunQueue, type MappedRun, type Packing } from './run-queue.ts'
import { createStreamWindow, mostChunkBytes } from './stream-window.ts'

/** A file as the reader of its tables sees it. */
export interface DiskFile {
  /** `size` bytes at `start`; each byte may be asked for once. `what` is for people. */
  read(start: number, size: number, what: string): Promise<Uint8Array>
}

/**
 * Reads the tables of a disk image and says where its data are. It asks for tables in the order
 * of the file where it can, and ends when all is said.
 */
export type MapDisk = (file: DiskFile) => AsyncGenerator<MappedRun, void>

/** A run's bytes, valid until the next extent is asked for. */
export interface PackedExtent {
  readonly guest: number
  readonly bytes: Uint8Array
  readonly packing: Packing
}

export interface OnePassOptions {
  readonly format: string
  /** Where bytes wait whose use is not known yet; nothing is left there. */
  readonly spillFolder: string
  readonly mostSpillBytes: number
  readonly signal: AbortSignal
}

interface Request {
  readonly start: number
  readonly what: string
  readonly bytes: Uint8Array
  filled: number
  readonly answer: PromiseWithResolvers<Uint8Array>
}

const memoryBytes = 4 * 1024 * 1024

/**
 * The data of a disk image in the order of the file, from one pass over `body`, which is read to
 * its end. What comes before the table that tells its use waits in a spill; images as tools write
 * them need next to none. Throws IMAGE_INCOMPLETE for what lies past the end, IMAGE_UNSAFE where
 * two things claim the same bytes or too much would have to wait, and what `map` throws.
 */
export async function* readOnePass(
  body: Bytes,
  map: MapDisk,
  { format, spillFolder, mostSpillBytes, signal }: OnePassOptions,
): AsyncGenerator<PackedExtent, void> {
  await using parking = createParking({ folder: spillFolder, memoryBytes })
  const window = createStreamWindow(parking)
  const queue = createRunQueue()
  const chunks = inChunks(body)
  let wanted = Promise.withResolvers<void>()
  let request: Request | undefined
  let isMapped = false
  let isEnded = false

  const unsafe = (why: string): CodedError =>
    new CodedError('IMAGE_UNSAFE', `the ${format} is refused: ${why}`)

  const overlap = (what: string): CodedError => unsafe(`${what} shares bytes with other data`)

  const file: DiskFile = {
    read(start, size, what) {
      const answer = Promise.withResolvers<Uint8Array>()
      request = { start, what, bytes: new Uint8Array(size), filled: 0, answer }
      wanted.resolve()
      return answer.promise
    },
  }
  const runs = map(file)
  let step: Promise<IteratorResult<MappedRun, void>> | undefined

  /** What is here of a new request is copied now, the rest as it comes. */
  async function begin(asked: Request): Promise<void> {
    const { start, bytes, what } = asked
    const here = Math.min(bytes.length, Math.max(0, window.position - start))
    asked.filled = await window.copy(start, bytes.subarray(0, here))
    if (asked.filled < here) throw overlap(what)
    if (!window.use(start, start + bytes.length, false)) throw overlap(what)
  }

  function collect(asked: Request, chunk: Uint8Array): void {
    const chunkStart = window.position - chunk.length
    const from = asked.start + asked.filled
    const part = chunk.subarray(
      Math.max(0, from - chunkStart),
      Math.max(0, asked.start + asked.bytes.length - chunkStart),
    )
    if (from >= window.position || part.length === 0) return
    asked.bytes.set(part, asked.filled)
    asked.filled += part.length
  }

  async function take(run: MappedRun): Promise<PackedExtent> {
    const { start, size, guest, packing } = run
    let bytes = window.view(start, size)
    if (!bytes) {
      bytes = new Uint8Array(size)
      if ((await window.copy(start, bytes)) < size) {
        throw overlap(`the data of guest byte ${guest}`)
      }
    }
    if (!window.use(start, start + size, packing !== 'plain')) {
      throw overlap(`the data of guest byte ${guest}`)
    }
    return { guest, bytes, packing }
  }

  /** The next chunk of the file; at its end whoever waits is told. */
  async function advance(): Promise<void> {
    const next = await chunks.next()
    signal.throwIfAborted()
    if (next.done === true) {
      isEnded = true
      if (request) throw cutOff(format, request.what, request.start + request.bytes.length, window)
      const first = queue.first()
      if (first) {
        const what = `the data of guest byte ${first.guest}`
        throw cutOff(format, what, first.start + first.size, window)
      }
      return
    }
    await leavePassed()
    window.append(next.value)
    if (request) collect(request, next.value)
  }

  async function leavePassed(): Promise<void> {
    const first = queue.first()
    const end = Math.min(window.position, first?.start ?? Infinity)
    await window.leave(end, { keeps: !isMapped })
    if (parking.size > mostSpillBytes) {
      throw unsafe(`more than ${mostSpillBytes} bytes lie before the tables that say what they are`)
    }
  }

  /** Runs the mapping as far as it goes without more of the file. */
  async function mapOn(): Promise<void> {
    while (!isMapped) {
      if (request) {
        if (request.filled < request.bytes.length) return
        const { answer, bytes } = request
        request = undefined
        wanted = Promise.withResolvers()
        answer.resolve(bytes)
      }
      step ??= runs.next()
      const asks = wanted.promise.then(() => undefined)
      const stepped = await Promise.race([step, asks])
      if (!stepped) {
        if (request) await begin(request)
        continue
      }
      step = undefined
      if (stepped.done === true) isMapped = true
      else queue.add(stepped.value)
    }
  }

  try {
    for (;;) {
      await mapOn()
      for (;;) {
        const first = queue.first()
        if (!first || first.start + first.size > window.position) break
        queue.removeFirst()
        yield await take(first)
      }
      if (isEnded) return
      await advance()
    }
  } finally {
    request?.answer.reject(new CodedError('CANCELLED', 'reading the image has stopped'))
    await step?.catch(() => {})
    await runs.return()
    await chunks.return()
  }
}

async function* inChunks(body: Bytes): AsyncGenerator<Uint8Array, void> {
  for await (const chunk of body) {
    for (let at = 0; at < chunk.length; at += mostChunkBytes) {
      yield chunk.subarray(at, at + mostChunkBytes)
    }
  }
}

function cutOff(
  format: string,
  what: string,
  end: number,
  { position }: { readonly position: number },
): CodedError {
  return new CodedError(
    'IMAGE_INCOMPLETE',
    `the ${format} is cut off: ${what} ends at byte ${end}, the file at ${position}; check the source file`,
    { detail: { end, fileSize: position } },
  )
}
