import { z } from 'zod'

/** What the load generator can be told to do, and what it answers. */
export interface Job<Args, Result> {
  readonly name: string
  readonly args: z.ZodType<Args>
  readonly result: z.ZodType<Result>
}

const repository = { url: z.string(), name: z.string() }
const blob = { ...repository, size: z.number(), seed: z.string() }
const images = { ...blob, from: z.number(), to: z.number() }
const timed = z.object({ ms: z.number() })

function defineJob<Args, Result>(
  name: string,
  args: z.ZodType<Args>,
  result: z.ZodType<Result>,
): Job<Args, Result> {
  return { name, args, result }
}

/** Times are milliseconds, `at` counts from the epoch; `seed` and `size` say which blob. */
export const jobs = {
  /** Hashes what all blobs of that size begin with, so that the next job need not. */
  prepare: defineJob('prepare', z.object({ size: z.number() }), z.object({})),
  /**
   * Pushes `count` blobs at the same time: POST, one PATCH or one for every `chunkBytes`, and an
   * empty PUT. `commitMs`: the slowest PUT.
   */
  push: defineJob(
    'push',
    z.object({
      ...blob,
      count: z.number(),
      chunkBytes: z.number().optional(),
      bytesPerSecond: z.number().optional(),
    }),
    z.object({ ms: z.number(), commitMs: z.number(), commitAt: z.number() }),
  ),
  /** GET of the whole blob; `verify` also compares its digest. */
  pull: defineJob('pull', z.object({ ...blob, verify: z.boolean() }), timed),
  /** Sends the first `bytes` of a blob in one PATCH and keeps the connection open. */
  pushHalf: defineJob(
    'pushHalf',
    z.object({ ...blob, bytes: z.number() }),
    z.object({ path: z.string() }),
  ),
  /** Goes on with an upload wherever `url` says that it is, or anew where it knows nothing of it. */
  resume: defineJob(
    'resume',
    z.object({ ...blob, path: z.string() }),
    z.object({ startedAt: z.number(), commitMs: z.number() }),
  ),
  /** Gets a blob over and over on one connection until `stopPolling`. */
  startPolling: defineJob('startPolling', z.object(blob), z.object({})),
  /** The slowest poll that touched the time given, and the slowest of all. */
  stopPolling: defineJob(
    'stopPolling',
    z.object({ fromAt: z.number(), toAt: z.number() }),
    z.object({ maxMs: z.number(), maxEverMs: z.number() }),
  ),
  /** Pushes the manifests [from, to) of one config and no layers, each with a tag of its own. */
  putManifests: defineJob(
    'putManifests',
    z.object({ ...repository, from: z.number(), to: z.number(), connections: z.number() }),
    timed,
  ),
  /**
   * Pushes the images [from, to), each of one layer of `size` bytes, a config that is there and a
   * manifest with a tag of its own, until `stopImages`; answers when each was complete, in order.
   */
  pushImages: defineJob(
    'pushImages',
    z.object({ ...images, connections: z.number() }),
    z.object({ at: z.array(z.number()) }),
  ),
  /** No image is begun after it; `pushImages` answers when those at work are complete. */
  stopImages: defineJob('stopImages', z.object({}), z.object({})),
  /** How many of the images lack something: their tag or their layer. */
  countLostImages: defineJob('countLostImages', z.object(images), z.object({ lost: z.number() })),
  /**
   * Looks at the first `count` blobs of `registry-seeded-blobs.ts`: kept ones that are gone or
   * have other bytes, and garbage that is still there.
   */
  countSeeded: defineJob(
    'countSeeded',
    z.object({ url: z.string(), count: z.number() }),
    z.object({ lost: z.number(), left: z.number() }),
  ),
  headBlobs: defineJob(
    'headBlobs',
    z.object({ ...blob, count: z.number(), connections: z.number() }),
    timed,
  ),
  /** All tags, in pages of `n` where given. */
  listTags: defineJob(
    'listTags',
    z.object({ ...repository, n: z.number().optional() }),
    z.object({ ms: z.number(), pages: z.number(), tags: z.number() }),
  ),
}
