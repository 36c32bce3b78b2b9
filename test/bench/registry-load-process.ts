import { z } from 'zod'
import { prepare, push, pull, pushHalf, resume } from './registry-load-blobs.ts'
import { countLostImages, countSeeded, pushImages, stopImages } from './registry-load-images.ts'
import { jobs, type Job } from './registry-load-jobs.ts'
import {
  headBlobs,
  listTags,
  putManifests,
  startPolling,
  stopPolling,
} from './registry-load-small.ts'

// The load generator's process: does the jobs that `registry-load.ts` sends.

const request = z.object({ id: z.number(), job: z.string(), args: z.unknown() })

const handlers = new Map([
  on(jobs.prepare, prepare),
  on(jobs.push, push),
  on(jobs.pull, pull),
  on(jobs.pushHalf, pushHalf),
  on(jobs.resume, resume),
  on(jobs.startPolling, startPolling),
  on(jobs.stopPolling, stopPolling),
  on(jobs.putManifests, putManifests),
  on(jobs.pushImages, pushImages),
  on(jobs.stopImages, stopImages),
  on(jobs.countLostImages, countLostImages),
  on(jobs.countSeeded, countSeeded),
  on(jobs.headBlobs, headBlobs),
  on(jobs.listTags, listTags),
])

function on<Args, Result>(
  job: Job<Args, Result>,
  handle: (args: Args) => Promise<Result>,
): [string, (args: unknown) => Promise<unknown>] {
  return [job.name, async (args) => handle(job.args.parse(args))]
}

process.on('message', (message) => {
  const { id, job, args } = request.parse(message)
  const handle = handlers.get(job) ?? (() => Promise.reject(new Error(`no job ${job}`)))
  handle(args).then(
    (result) => process.send?.({ id, result }),
    (error: unknown) => process.send?.({ id, error: String(error) }),
  )
})
process.on('disconnect', () => process.exit())
