import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { z } from 'zod'
import type { Job } from './registry-load-jobs.ts'

/** The load generator: a process of its own, so that its work is not counted as a server's. */
export interface Load extends AsyncDisposable {
  readonly pid: number
  /** Rejects where the job fails or the process ends. */
  run<Args, Result>(job: Job<Args, Result>, args: Args): Promise<Result>
}

const reply = z.object({
  id: z.number(),
  result: z.unknown().optional(),
  error: z.string().optional(),
})

export function startLoad(): Load {
  const child = fork(join(import.meta.dirname, 'registry-load-process.ts'))
  const waiting = new Map<number, PromiseWithResolvers<unknown>>()
  let nextId = 0
  child.on('message', (message) => {
    const { id, result, error } = reply.parse(message)
    const job = waiting.get(id)
    waiting.delete(id)
    if (error === undefined) job?.resolve(result)
    else job?.reject(new Error(error))
  })
  child.on('exit', () => {
    for (const job of waiting.values()) job.reject(new Error('the load generator has ended'))
  })
  return {
    pid: child.pid ?? -1,
    async run(job, args) {
      const id = nextId++
      const done = Promise.withResolvers<unknown>()
      waiting.set(id, done)
      child.send({ id, job: job.name, args })
      return job.result.parse(await done.promise)
    },
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill('SIGKILL')
      await once(child, 'exit')
    },
  }
}
