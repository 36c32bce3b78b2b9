import { randomBytes } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { startFlawedRegistry, type Flaw } from '../fixtures/flawed-registry.ts'
import { startMirrorServer } from '../fixtures/mirror-server.ts'
import { isNightly } from './nightly.ts'
import { createSeededRandom } from './seeded-random.ts'

type Random = (below: number) => number

/** Sends in pieces, sometimes slowly, and often breaks off; at other times it is out of order. */
function badWeather(blob: Uint8Array, random: Random): Flaw {
  async function send(response: ServerResponse, start: number): Promise<void> {
    const end = Math.min(blob.length, start + 300_000 + random(blob.length))
    for (let at = start; at < end && response.writable;) {
      const piece = Math.min(1 + random(200_000), end - at)
      response.write(blob.subarray(at, at + piece))
      at += piece
      if (random(4) === 0) await sleep(random(20))
    }
    if (end === blob.length) {
      response.end()
      return
    }
    // What was sent last is to arrive.
    await sleep(10)
    response.destroy()
  }
  return (request, response) => {
    if (request.method !== 'GET') return false
    if (random(10) === 0) {
      response.writeHead(503).end()
      return true
    }
    const [, first = '0', last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? []
    // Parts in the middle are left to the registry.
    if (last !== undefined && Number(last) < blob.length - 1) return false
    const start = Number(first)
    const range = { 'content-range': `bytes ${start}-${blob.length - 1}/${blob.length}` }
    const length = { 'content-length': blob.length - start }
    response.writeHead(
      last === undefined ? 200 : 206,
      last === undefined ? length : { ...length, ...range },
    )
    void send(response, start)
    return true
  }
}

test.each(Array.from({ length: isNightly ? 60 : 4 }, (_, seed) => seed))(
  'clients get every byte in its place, or an error, whatever the upstream does (seed %i)',
  async (seed) => {
    const next = createSeededRandom(seed)
    const random: Random = (below) => Math.floor(next() * below)
    const blob = randomBytes(6_000_000)
    await using upstream = await startFlawedRegistry()
    upstream.add({ blob })
    upstream.flaw(badWeather(blob, random))
    await using mirror = await startMirrorServer([{ upstream: upstream.origin }])
    const path = `/v2/hub/disk/blobs/${digestOf(blob)}`

    /** Reads all or a part of it, perhaps not to the end; answers whether it got what it asked for. */
    async function client(): Promise<boolean> {
      await sleep(random(300))
      const start = random(3) > 0 ? 0 : random(blob.length)
      const headers = start > 0 ? { range: `bytes=${start}-` } : {}
      const patience = random(4) === 0 ? random(blob.length) : Infinity
      let at = start
      try {
        const response = await mirror.get(path, headers)
        if (!response.ok || !response.body) return false
        for await (const chunk of response.body) {
          const expected = blob.subarray(at, at + chunk.length)
          if (!expected.equals(chunk)) throw new RangeError(`other bytes at ${at}`)
          at += chunk.length
          if (at > patience) return false
        }
      } catch (error) {
        if (error instanceof RangeError) throw error
        return false
      }
      if (at !== blob.length) throw new RangeError(`the body ended at ${at}`)
      return true
    }

    await Promise.all(Array.from({ length: 40 }, client))
    upstream.flaw(undefined)
    const last = await mirror.get(path)
    expect(Buffer.from(await last.arrayBuffer()).equals(blob)).toBe(true)
    const { blobs } = mirror.store.registry.repository('hub/disk')
    await expect.poll(() => blobs.stat(digestOf(blob))).toEqual({ size: blob.length })
  },
)
