import { toCodedError } from '../../core/errors.ts'

/** Proxies and clients give up on silence; an empty line says that the work goes on. */
const heartbeatMs = 10_000

/**
 * Events as lines of JSON (`application/x-ndjson`). Nothing is said before the first event, so what
 * fails before it can be answered as a failure; what fails later is the last line, `{"error"}`.
 */
export async function* eventLines(
  events: AsyncIterable<unknown>,
  { onFailure, heartbeat = heartbeatMs }: EventLinesOptions,
): AsyncGenerator<Uint8Array, void> {
  const source = events[Symbol.asyncIterator]()
  let hasBegun = false
  try {
    for (;;) {
      const next = source.next()
      if (hasBegun) yield* beatUntil(next, heartbeat)
      const { done, value } = await next
      if (done === true) return
      hasBegun = true
      yield line(value)
    }
  } catch (error) {
    if (!hasBegun) throw error
    onFailure(error)
    const { code, message } = toCodedError(error)
    yield line({ error: { code, message } })
  } finally {
    await source.return?.()
  }
}

export interface EventLinesOptions {
  /** Hears of a failure that the client is told of in the middle. */
  readonly onFailure: (error: unknown) => void
  /** Ms between signs of life; ten seconds but for tests. */
  readonly heartbeat?: number
}

const line = (value: unknown): Uint8Array => Buffer.from(`${JSON.stringify(value)}\n`)

/** An empty line every `everyMs` until `work` has ended. */
async function* beatUntil(
  work: Promise<unknown>,
  everyMs: number,
): AsyncGenerator<Uint8Array, void> {
  const ended = work.then(
    () => true,
    () => true,
  )
  for (;;) {
    let timer: NodeJS.Timeout | undefined
    const beat = new Promise<false>((resolve) => {
      timer = setTimeout(() => resolve(false), everyMs)
    })
    const isOver = await Promise.race([ended, beat])
    clearTimeout(timer)
    if (isOver) return
    yield Buffer.from('\n')
  }
}
