import { describe, expect, it } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { toCodedError } from '../../core/errors.ts'
import { isNightly } from '../../test/e2e/nightly.ts'
import { createSeededRandom } from '../../test/e2e/seeded-random.ts'
import {
  copyWorld,
  createProcess,
  createWorld,
  indexOf,
  manifestOf,
  violations,
  type Process,
} from '../../test/model/gc-world.ts'
import { createInterleaving, type Choose } from '../../test/model/interleave.ts'

/** Seven scenarios: over 10^5 orders in every run of the tests, over 10^6 at night. */
const runsPerScenario = isNightly ? 150_000 : 15_000
/** The smallest scenario has some fourteen thousand in all. */
const fewestOrders = isNightly ? 5_000 : 1_500
const blob = Buffer.from('{"a":1}')
const digest = digestOf(blob)
const image = manifestOf(blob)
const index = indexOf(image)
const put = { tag: 't', replace: true } as const

/** What an actor was told; what it was promised must be so at the end. */
type Promised = Set<'image a' | 'image b' | 'index a' | 'link a' | 'link b'>

interface Scenario {
  readonly prepare: (process: Process) => Promise<void>
  readonly actors: Readonly<Record<string, (process: Process, promised: Promised) => Promise<void>>>
  /** What is wrong at the end where nobody crashed. */
  readonly check?: (process: Process) => Promise<string | undefined>
}

/** A push whose blob may have gone in the meantime, which it must be told. */
async function unlessBlobGone(action: () => Promise<void>): Promise<void> {
  try {
    await action()
  } catch (error) {
    if (toCodedError(error).code !== 'MANIFEST_BLOB_UNKNOWN') throw error
  }
}

async function pushImage(process: Process, promised: Promised): Promise<void> {
  await process.push('a', blob)
  await process.manifests('a').put(image, put)
  promised.add('image a')
}

async function tagWhereBlobIs(process: Process, promised: Promised): Promise<void> {
  await unlessBlobGone(async () => {
    if (!(await process.index.stat('a', digest))) return
    await process.manifests('a').put(image, put)
    promised.add('image a')
  })
}

async function mountAndPush(process: Process, promised: Promised): Promise<void> {
  if (!(await process.index.link('b', digest))) return
  promised.add('link b')
  await process.manifests('b').put(image, put)
  promised.add('image b')
}

const collect = (process: Process): Promise<void> => process.collectLink('a', digest)
const orphan = (process: Process): Promise<void> => process.push('a', blob)
const untagged = async (process: Process): Promise<void> => {
  await process.push('a', blob)
  await process.manifests('a').put(image, { replace: true })
}
const tagged = async (process: Process): Promise<void> => {
  await process.push('a', blob)
  await process.manifests('a').put(image, put)
}

const scenarios: Readonly<Record<string, Scenario>> = {
  'a push of an orphan that is being collected': {
    prepare: orphan,
    actors: { C: collect, P: pushImage },
  },
  'a manifest for a blob that is being collected': {
    prepare: orphan,
    actors: { C: collect, D: collect, P: tagWhereBlobIs },
  },
  'a mount from a repository that loses the blob': {
    prepare: orphan,
    actors: {
      P: mountAndPush,
      U: async (process) => {
        await process.index.unlink('a', digest)
        await process.collectPointer(digest)
      },
    },
  },
  'two pushes while the blob is deleted and collected': {
    prepare: orphan,
    actors: {
      P: mountAndPush,
      Q: async (process, promised) => {
        await process.push('b', blob)
        promised.add('link b')
      },
      U: async (process) => {
        await process.index.unlink('a', digest)
        await process.collectPointer(digest)
      },
    },
  },
  'a push while the same image is deleted and collected': {
    prepare: tagged,
    actors: {
      D: async (process) => {
        await process.manifests('a').delete({ kind: 'digest', digest: image.digest })
        await process.collectLink('a', digest)
      },
      P: async (process) => {
        await process.push('a', blob)
        await process.manifests('a').put(image, put)
      },
    },
    // Either comes after the other: both are there, or neither.
    check: async (process) => {
      const byTag = await process.manifests('a').get({ kind: 'tag', tag: 't' })
      const byDigest = await process.manifests('a').get({ kind: 'digest', digest: image.digest })
      return (byTag === undefined) === (byDigest === undefined) ? undefined : 'half deleted'
    },
  },
  'an untagged manifest that is tagged while it is collected': {
    prepare: untagged,
    actors: {
      C: async (process) => {
        await process.collectManifest('a', image.digest)
        await process.collectLink('a', digest)
      },
      P: tagWhereBlobIs,
    },
  },
  'an untagged manifest that an index takes while it is collected': {
    prepare: untagged,
    actors: {
      C: async (process) => {
        await process.collectManifest('a', image.digest)
        await process.collectLink('a', digest)
      },
      P: (process, promised) =>
        unlessBlobGone(async () => {
          await process.manifests('a').put(index, put)
          promised.add('index a')
        }),
    },
  },
}

/** Half of the runs pick evenly, half stay with one actor for a while. */
function chooser(random: () => number): Choose {
  const stay = random() < 0.5 ? 0 : random()
  let last = 0
  return (count) => {
    if (last >= count || random() >= stay) last = Math.floor(random() * count)
    return last
  }
}

describe('the collector and the pushes', () => {
  it.each(Object.keys(scenarios))(
    'keep their promises in every order: %s',
    async (name) => {
      const scenario = scenarios[name]
      if (!scenario) throw new Error(`no scenario ${name}`)
      const { prepare, actors, check } = scenario
      const before = await createWorld(prepare, 3)
      const orders = new Set<string>()
      const broken: unknown[] = []
      for (let run = 0; run < runsPerScenario; run++) {
        const random = createSeededRandom(run)
        const world = copyWorld(before)
        const promised: Promised = new Set()
        const interleaving = createInterleaving(chooser(random))
        const names = Object.keys(actors)
        const acting = Object.entries(actors).map(([actor, act]) => {
          const objects = interleaving.storeFor(actor, world.objects)
          const process = createProcess(world, objects, (action) =>
            interleaving.step(actor, action),
          )
          return [actor, () => act(process, promised)] as const
        })
        const crashes = random() < 0.25
        const crash = {
          actor: names[Math.floor(random() * names.length)] ?? '',
          afterCalls: Math.floor(random() * 12),
        }
        const order = await interleaving.run(
          Object.fromEntries(acting),
          crashes ? crash : undefined,
        )
        orders.add(order)
        const plain = createProcess(world, world.objects, (action) => action())
        const wrong = await violations(world, crashes)
        for (const what of promised) if (!(await holds(plain, what))) wrong.push(`lost: ${what}`)
        const half = crashes ? undefined : await check?.(plain)
        if (half !== undefined) wrong.push(half)
        if (wrong.length > 0) broken.push({ run, order, crash: crashes && crash, wrong })
        if (broken.length > 0) break
      }
      expect(broken).toEqual([])
      expect(orders.size).toBeGreaterThan(fewestOrders)
    },
    isNightly ? 3_600_000 : 600_000,
  )
})

async function holds(process: Process, what: string): Promise<boolean> {
  const [kind, name = ''] = what.split(' ')
  if (kind === 'link') return (await process.index.stat(name, digest)) !== undefined
  const found = await process.manifests(name).get({ kind: 'tag', tag: 't' })
  return found?.digest === (kind === 'index' ? index.digest : image.digest)
}
