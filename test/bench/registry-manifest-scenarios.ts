import { jobs } from './registry-load-jobs.ts'
import { manifestConfig } from './registry-load-small.ts'
import { defineScenario, mebibytes, scaled } from './registry-scenario.ts'

const name = 'bench/many'
const connections = 16
const fewManifests = 1000
const manyManifests = 10_000
const heads = 3000
const pageSize = 100
const listings = 5

/** A repository that grows: does every request still cost the same? */
export const manyTags = defineScenario({
  name: 'manifests',
  title: (size) =>
    `a repository of ${scaled(fewManifests, size)}, then ${scaled(manyManifests, size)} tagged manifests; ${connections} connections`,
  storages: ['folder', 's3'],
  metrics: {
    first: { label: 'manifests pushed, first', unit: '/s', gates: { folder: { atLeast: 300 } } },
    last: { label: 'manifests pushed, last', unit: '/s', gates: { folder: { atLeast: 300 } } },
    flatPush: { label: 'last ÷ first', unit: '×', gates: { folder: { atLeast: 0.8 } } },
    headFew: { label: 'HEAD of a blob, few manifests', unit: '/s' },
    headMany: {
      label: 'HEAD of a blob, many manifests',
      unit: '/s',
      gates: { folder: { atLeast: 1500 } },
    },
    flatHead: { label: 'many ÷ few', unit: '×', gates: { folder: { atLeast: 0.8 } } },
    list: { label: 'all tags in one answer', unit: 'ms', gates: { folder: { atMost: 60 } } },
    pages: {
      label: `all tags, ${pageSize} at a time`,
      unit: 'ms',
      gates: { folder: { atMost: 600 } },
    },
    cpu: { label: 'CPU of a pushed manifest', unit: 'ms' },
    rss: { label: 'memory', unit: 'MiB' },
  },
  async run({ site, server, load, size }) {
    const repository = { url: server.url, name }
    const few = scaled(fewManifests, size)
    const many = scaled(manyManifests, size)
    await load.run(jobs.push, { ...repository, ...manifestConfig, count: 1 })
    const put = async (from: number, to: number): Promise<number> => {
      const { ms } = await load.run(jobs.putManifests, { ...repository, from, to, connections })
      return ((to - from) * 1000) / ms
    }
    const head = async (): Promise<number> => {
      const count = scaled(heads, size)
      const blob = { ...repository, ...manifestConfig, count, connections }
      const { ms } = await load.run(jobs.headBlobs, blob)
      return (count * 1000) / ms
    }
    const list = async (n?: number): Promise<number> => {
      const asked = n === undefined ? repository : { ...repository, n }
      const { ms, tags } = await load.run(jobs.listTags, asked)
      if (tags !== many) throw new Error(`${tags} of ${many} tags were listed`)
      return ms
    }
    let first = 0
    let headFew = 0
    let last = 0
    const cost = await site.measure(server, async () => {
      first = await put(0, few)
      headFew = await head()
      await put(few, many - few)
      last = await put(many - few, many)
    })
    const headMany = await head()
    const times: number[] = []
    for (let round = 0; round < listings; round++) times.push(await list())
    return {
      first,
      last,
      flatPush: last / first,
      headFew,
      headMany,
      flatHead: headMany / headFew,
      list: times.toSorted((a, b) => a - b)[Math.floor(listings / 2)] ?? 0,
      pages: await list(pageSize),
      cpu: cost.cpuMs / many,
      rss: mebibytes(cost.rssBytes),
    }
  },
})
