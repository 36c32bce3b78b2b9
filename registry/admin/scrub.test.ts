import { randomBytes } from 'node:crypto'
import { unlink } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { createLog } from '../../core/log.ts'
import { openAdminStore } from '../../test/fixtures/admin-parts.ts'
import { fillStore, pushBlob, pushImage } from '../../test/fixtures/admin-store.ts'
import { keys } from '../keys.ts'
import type { ScrubEvent } from './scrub.ts'
import { createScrubbing } from './scrubbing.ts'

const log = createLog('silent')
const { signal } = new AbortController()
const unlimited = { bytesPerSecond: Infinity, signal }

async function all(events: AsyncIterable<ScrubEvent>): Promise<ScrubEvent[]> {
  const found: ScrubEvent[] = []
  for await (const event of events) if (!('progress' in event)) found.push(event)
  return found
}

describe('a scrub', () => {
  it('reads every blob and finds nothing where nothing is', async () => {
    await using scrubbed = await openAdminStore()
    await fillStore(scrubbed.store)
    const events = await all(scrubbed.createScrub().run(unlimited))
    const blobs = (await scrubbed.objects.list(keys.blobs, {})).length
    expect(events).toMatchObject([{ report: { blobs, damaged: 0, unreadable: 0, share: 1 } }])
    expect(await scrubbed.createScrub().state()).toMatchObject({ running: false, pass: { blobs } })
  })

  it('takes damaged and missing blobs out of service; a push heals them', async () => {
    await using scrubbed = await openAdminStore()
    const { store, dataPath } = scrubbed
    const layer = randomBytes(50_000)
    const { digest } = await pushImage(store, 'a', { tag: 't', layer })
    await pushImage(store, 'b', { tag: 't', layer })
    const other = await pushImage(store, 'b', { tag: 'other' })
    await scrubbed.flipBit(digestOf(layer))
    await unlink(await dataPath(other.layer))
    const events = await all(scrubbed.createScrub().run(unlimited))
    const damaged = events.flatMap((event) => ('damaged' in event ? event.damaged : []))
    expect(damaged.every(({ isQuarantined }) => isQuarantined)).toBe(true)
    expect(damaged.map((one) => one.digest)).toEqual([digestOf(layer), other.layer].sort())
    for (const name of ['a', 'b']) {
      const { blobs, manifests } = store.registry.repository(name)
      expect(await blobs.stat(digestOf(layer))).toBeUndefined()
      expect(await manifests.get({ kind: 'tag', tag: 't' })).toBeDefined()
    }
    const [used] = await store.quotas.list()
    expect(await scrubbed.createScrub().list()).toMatchObject(
      [digestOf(layer), other.layer].sort().map((it) => ({ digest: it, isHealed: false })),
    )
    // Three manifests lack their layer, and that is all that is wrong.
    const lacking = await scrubbed.findings()
    expect(lacking.map((finding) => finding.split(' ')[0])).toEqual(Array(3).fill('blob-missing'))
    await store.gc.run({ dryRun: false })
    await pushBlob(store, 'a', layer)
    await store.registry.mountBlob(digestOf(layer), { from: 'a', to: 'b', mayPull: () => true })
    expect((await store.quotas.list())[0]?.usedBytes).toBe((used?.usedBytes ?? 0) + 100_000)
    expect(await scrubbed.findings()).toEqual([`blob-missing ${keys.manifest('b', other.digest)}`])
    expect(await all(scrubbed.createScrub().run(unlimited))).toMatchObject([
      { report: { damaged: 0 } },
    ])
    expect(await scrubbed.createScrub().purge()).toEqual({ blobs: 2, bytes: 150_000 })
    expect(await scrubbed.createScrub().list()).toEqual([])
    const { manifests } = store.registry.repository('a')
    expect(await manifests.get({ kind: 'digest', digest })).toBeDefined()
  })

  it('goes on where it was left, in another process too', async () => {
    await using scrubbed = await openAdminStore()
    for (let i = 0; i < 20; i++) await pushBlob(scrubbed.store, 'a', randomBytes(10_000 + i))
    const stop = new AbortController()
    const running = scrubbed.createScrub().run({ bytesPerSecond: Infinity, signal: stop.signal })
    const other = scrubbed.createScrub()
    let seen = 0
    const first = (async () => {
      for await (const event of running) {
        if (!('progress' in event)) continue
        seen++
        await expect(other.run(unlimited)[Symbol.asyncIterator]().next()).rejects.toMatchObject({
          code: 'UNAVAILABLE',
        })
        stop.abort(new Error('stopped'))
      }
    })()
    await expect(first).rejects.toThrow('stopped')
    expect(seen).toBe(1)
    const left = await other.state()
    expect(left).toMatchObject({ running: false })
    expect(left.pass?.finishedAt).toBeUndefined()
    const blobs = left.pass?.blobs ?? 0
    expect(blobs).toBeLessThan(20)
    const events = await all(other.run(unlimited))
    // What was being read when it stopped is read again.
    expect(events).toMatchObject([{ report: { blobs: 20, startedAt: left.pass?.startedAt } }])
  })

  it('keeps its rate', async () => {
    await using scrubbed = await openAdminStore()
    for (let i = 0; i < 4; i++) await pushBlob(scrubbed.store, 'a', randomBytes(250_000))
    const started = performance.now()
    await all(scrubbed.createScrub().run({ bytesPerSecond: 1_000_000, signal }))
    const seconds = (performance.now() - started) / 1000
    expect(seconds).toBeGreaterThan(0.9)
  })

  it('runs by itself, once a week', async () => {
    await using scrubbed = await openAdminStore()
    await pushBlob(scrubbed.store, 'a', randomBytes(1000))
    const scrub = scrubbed.createScrub()
    await using scrubbing = createScrubbing(scrub, { log, everyMs: 10 })
    scrubbing.apply(1_000_000)
    await expect.poll(async () => (await scrub.state()).pass?.finishedAt).toBeDefined()
    const { pass } = await scrub.state()
    await new Promise((later) => setTimeout(later, 100))
    expect((await scrub.state()).pass).toEqual(pass)
  })
})
