import { randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { isNightly } from '../../test/e2e/nightly.ts'
import { createSeededRandom } from '../../test/e2e/seeded-random.ts'
import { copyWorld, createProcess, createWorld, violations } from '../../test/model/gc-world.ts'
import { createInterleaving } from '../../test/model/interleave.ts'
import { createMemoryObjects } from '../../test/model/memory-objects.ts'
import { keys } from '../keys.ts'
import { pointerRecord } from '../records.ts'
import { readVersioned } from '../versioned.ts'
import { listQuarantine, purgeQuarantine, quarantine, severLinks } from './quarantine.ts'

const runs = isNightly ? 150_000 : 6000
const blob = Buffer.from('{"a":1}')
const digest = digestOf(blob)
const damage = { found: digestOf(Buffer.from('{"a":2}')), why: 'other bytes' }
const accounts = { discharge: async () => {} }

describe('a blob in quarantine', () => {
  it('is not served, keeps its bytes from the collector, and is healed by a push', async () => {
    const world = await createWorld((process) => process.push('a', blob), 3)
    const { objects } = world
    const process = createProcess(world, objects, (action) => action())
    await process.index.link('b', digest)
    const [damaged = ''] = world.data
    const found = await readVersioned(objects, pointerRecord, keys.pointer(digest))
    if (!found) throw new Error('no pointer')
    const data = {
      delete: async ({ data: uuid }: { readonly data: string }) => world.data.delete(uuid),
    }
    const parts = { objects, data, accounts }
    const record = await quarantine(parts, digest, found, damage)
    expect(record).toMatchObject({ data: damaged, repositories: ['a', 'b'], ...damage })
    expect(await process.index.stat('a', digest)).toBeUndefined()
    expect(await process.index.locate(digest)).toBeUndefined()
    expect(await process.index.link('c', digest)).toBe(false)
    await process.collectPointer(digest)
    expect(world.data).toContain(damaged)
    await process.push('b', blob)
    expect(await process.index.locate(digest)).not.toMatchObject({ data: damaged })
    expect(await process.index.link('c', digest)).toBe(true)
    expect(await listQuarantine(objects)).toMatchObject([{ digest, isHealed: true }])
    expect(await purgeQuarantine(parts)).toEqual({ blobs: 1, bytes: blob.length })
    expect(world.data.has(damaged)).toBe(false)
    expect(await listQuarantine(objects)).toEqual([])
    expect(await violations(world, false)).toEqual([])
  })

  it('is not taken for damaged where it was pushed again since it was read', async () => {
    const world = await createWorld((process) => process.push('a', blob), 3)
    const { objects } = world
    const process = createProcess(world, objects, (action) => action())
    const found = await readVersioned(objects, pointerRecord, keys.pointer(digest))
    await process.index.unlink('a', digest)
    await process.collectPointer(digest)
    await process.push('a', blob)
    if (!found) throw new Error('no pointer')
    const parts = { objects, data: { delete: async () => true }, accounts }
    expect(await quarantine(parts, digest, found, damage)).toBeUndefined()
    expect(await process.index.stat('a', digest)).toMatchObject({ size: blob.length })
    expect(await objects.list(keys.quarantines, {})).toEqual([])
  })

  it(
    'heals in whatever order it is pushed, mounted and taken out of service',
    async () => {
      const before = await createWorld(async (process) => {
        await process.push('a', blob)
        await process.index.link('b', digest)
      }, 3)
      const orders = new Set<string>()
      let healedRuns = 0
      const failures: object[] = []
      for (let run = 0; run < runs; run++) {
        const random = createSeededRandom(run)
        const world = copyWorld(before)
        const [damaged = ''] = world.data
        const interleaving = createInterleaving((count) => Math.floor(random() * count))
        /** Repositories that were told that bytes of their own were stored. */
        const healed = new Set<string>()
        const pusher = (actor: string, name: string) => async (): Promise<void> => {
          const objects = interleaving.storeFor(actor, world.objects)
          const process = createProcess(world, objects, (action) =>
            interleaving.step(actor, action),
          )
          const uuid = randomUUID()
          world.data.add(uuid)
          const bytes = { data: uuid, offset: 0, size: blob.length }
          if (await process.index.commit(name, digest, bytes)) healed.add(name)
          else world.data.delete(uuid)
        }
        const actors = {
          P: pusher('P', 'a'),
          Q: pusher('Q', 'c'),
          M: async () => {
            const objects = interleaving.storeFor('M', world.objects)
            await createProcess(world, objects, (action) => action()).index.link('d', digest)
          },
          S: async () => {
            const objects = interleaving.storeFor('S', world.objects)
            const found = await readVersioned(objects, pointerRecord, keys.pointer(digest))
            if (found?.record.data !== damaged || found.record.state === 'dead') return
            const data = { delete: async () => true }
            await quarantine({ objects, data, accounts, linkWaitMs: 0 }, digest, found, damage)
          },
        }
        const crash =
          random() < 0.25 ? { actor: 'S', afterCalls: Math.floor(random() * 12) } : undefined
        orders.add(await interleaving.run(actors, crash))
        // What a scrub does when it comes by again.
        const { objects } = world
        const pointer = await readVersioned(objects, pointerRecord, keys.pointer(digest))
        if (pointer?.record.state === 'dead') {
          await severLinks({ objects, accounts, linkWaitMs: 0 }, digest)
        }
        const plain = createProcess(world, objects, (action) => action())
        const wrong = await violations(world, false)
        for (const name of healed) {
          healedRuns++
          if (!(await plain.index.stat(name, digest))) wrong.push(`${name} has lost what it pushed`)
          const located = await plain.index.locate(digest)
          if (located?.data === damaged) wrong.push(`${name} is served damaged bytes`)
        }
        if (!world.data.has(damaged)) wrong.push('the damaged bytes are gone')
        if (wrong.length > 0) failures.push({ run, crash, wrong })
      }
      expect(failures).toEqual([])
      expect(orders.size).toBeGreaterThan(runs / 10)
      expect(healedRuns).toBeGreaterThan(runs / 10)
    },
    isNightly ? 3_600_000 : 120_000,
  )

  it('is forgotten only where nobody serves it', async () => {
    const objects = createMemoryObjects()
    const world = { objects, data: new Set<string>() }
    const process = createProcess(world, objects, (action) => action())
    await process.push('a', blob)
    const found = await readVersioned(objects, pointerRecord, keys.pointer(digest))
    const { state: _, rev: __, ...bytes } = { ...found?.record, ...damage, repositories: [] }
    // Left by a crash between the record and the pointer.
    const key = keys.quarantine(digest, bytes.data ?? '')
    await objects.put(key, Buffer.from(JSON.stringify(bytes)), 'ifAbsent')
    const data = {
      delete: async ({ data: uuid }: { readonly data: string }) => world.data.delete(uuid),
    }
    expect(await purgeQuarantine({ objects, data })).toEqual({ blobs: 0, bytes: 0 })
    expect(await violations(world, false)).toEqual([])
  })
})
