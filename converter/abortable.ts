/**
 * The same chunks, but a wait for the next one ends with the signal's reason. The source is closed
 * in every case; where it does not answer, that is not waited for.
 */
export async function* abortable<Chunk>(
  body: AsyncIterable<Chunk>,
  signal: AbortSignal,
): AsyncGenerator<Chunk, void> {
  const iterator = body[Symbol.asyncIterator]()
  let giveUp: ((reason: unknown) => void) | undefined
  const onAbort = (): void => giveUp?.(signal.reason)
  signal.addEventListener('abort', onAbort)
  let isWaiting = false
  try {
    for (;;) {
      signal.throwIfAborted()
      isWaiting = true
      const next = await new Promise<IteratorResult<Chunk>>((resolve, reject) => {
        giveUp = reject
        iterator.next().then(resolve, reject)
      })
      isWaiting = false
      if (next.done === true) return
      yield next.value
    }
  } finally {
    signal.removeEventListener('abort', onAbort)
    const closed = Promise.resolve(iterator.return?.())
    // The failure that ended the wait is the one to report.
    if (isWaiting) closed.catch(() => {})
    else await closed
  }
}
