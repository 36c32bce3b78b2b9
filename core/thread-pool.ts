import { once } from 'node:events'
import { availableParallelism } from 'node:os'
import { parentPort, Worker } from 'node:worker_threads'

type Message<Request> = { readonly id: number; readonly request: Request } | 'end'
type Reply<Answer> =
  | { readonly id: number; readonly answer: Answer }
  | { readonly id: number; readonly error: unknown }

interface Thread<Answer> {
  readonly worker: Worker
  readonly pending: Map<number, PromiseWithResolvers<Answer>>
}

/** Threads that answer requests, shared by any number of callers. */
export interface ThreadPool<Request, Answer> extends AsyncDisposable {
  readonly mostThreads: number
  /** Runs on the thread that has least to do; rejects with what it threw. */
  run(request: Request): Promise<Answer>
}

/**
 * Threads of the module at `url`, which calls `answerRequests`. They start with the first use;
 * idle ones do not keep the process alive. Disposing waits for what is at work: a thread that is
 * ended in the middle of native code takes the process with it.
 */
export function createThreadPool<Request, Answer>(
  url: URL,
  { threads: mostThreads = Math.min(4, availableParallelism()) } = {},
): ThreadPool<Request, Answer> {
  const threads: Thread<Answer>[] = []
  let nextId = 0

  function startThread(): Thread<Answer> {
    const thread: Thread<Answer> = { worker: new Worker(url), pending: new Map() }
    const { worker, pending } = thread
    const fail = (error: unknown): void => {
      const at = threads.indexOf(thread)
      if (at >= 0) threads.splice(at, 1)
      for (const job of pending.values()) job.reject(error)
      pending.clear()
    }
    worker.unref()
    worker.on('message', (reply: Reply<Answer>) => {
      const job = pending.get(reply.id)
      pending.delete(reply.id)
      if (pending.size === 0) worker.unref()
      if ('answer' in reply) job?.resolve(reply.answer)
      else job?.reject(reply.error)
    })
    worker.on('error', fail)
    worker.on('exit', (code) => fail(new Error(`a thread ended with code ${code}`)))
    threads.push(thread)
    return thread
  }

  function pickThread(): Thread<Answer> {
    const [least] = [...threads].sort((a, b) => a.pending.size - b.pending.size)
    const isFree = least !== undefined && least.pending.size === 0
    return least && (isFree || threads.length >= mostThreads) ? least : startThread()
  }

  async function end({ worker, pending }: Thread<Answer>): Promise<void> {
    await Promise.allSettled([...pending.values()].map(({ promise }) => promise))
    const ended = once(worker, 'exit')
    worker.ref()
    worker.postMessage('end' satisfies Message<Request>)
    await ended
  }

  return {
    mostThreads,
    run(request) {
      const { worker, pending } = pickThread()
      const id = nextId++
      const job = Promise.withResolvers<Answer>()
      pending.set(id, job)
      worker.ref()
      worker.postMessage({ id, request } satisfies Message<Request>)
      return job.promise
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(threads.splice(0).map(end))
    },
  }
}

/** In a thread of a pool: answers its requests until the pool is disposed. */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- what `postMessage` brings is what the pool of this thread sent
export function answerRequests<Request, Answer>(handle: (request: Request) => Answer): void {
  const port = parentPort
  const reply = (message: Reply<Answer>): void => port?.postMessage(message)
  port?.on('message', (message: Message<Request>) => {
    if (message === 'end') return port.close()
    const { id, request } = message
    try {
      reply({ id, answer: handle(request) })
    } catch (error) {
      reply({ id, error })
    }
  })
}
