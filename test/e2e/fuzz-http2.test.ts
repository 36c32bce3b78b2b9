import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { createAuthority } from '../fixtures/certificates.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { damaged } from './fuzz-requests.ts'
import { fuzzMs, fuzzSeed, loggedFailures, rssLimitBytes } from './fuzz-run.ts'
import { createDice, perhaps, type Dice } from './fuzz-values.ts'
import { connectHttp2, frame, headersFrame, resetFrame } from './http2-frames.ts'
import { readProcessState } from './process-state.ts'
import { createSeededRandom } from './seeded-random.ts'
import { startTlsServer } from './tls-server.ts'

/** As long as the other fuzzer is by far enough for four kinds of frames. */
const durationMs = fuzzMs / 4
const workers = 4

function someHeaders(stream: number, dice: Dice): Buffer {
  const fields = {
    ':method': perhaps(dice.pick(['GET', 'PUT', 'POST', 'PATCH', 'DELETE', 'CONNECT']), dice),
    ':scheme': perhaps('https', dice),
    ':authority': perhaps('127.0.0.1', dice),
    ':path': perhaps(dice.pick(['/v2/', '/v2/a/blobs/uploads/', '/v2/a/manifests/x']), dice),
    ...(dice.chance(0.5) ? { 'content-type': perhaps('application/octet-stream', dice) } : {}),
    ...(dice.chance(0.3) ? { 'content-length': perhaps('100', dice) } : {}),
    ...(dice.chance(0.1) ? { [perhaps('host', dice)]: perhaps('x', dice) } : {}),
    ...(dice.chance(0.1) ? { connection: 'close', 'transfer-encoding': 'chunked' } : {}),
    ...(dice.chance(0.1) ? { expect: '100-continue' } : {}),
  }
  // One byte says how long a text is.
  const short = Object.entries(fields).map(([name, value]) => [
    name.slice(0, 99),
    value.slice(0, 99),
  ])
  return headersFrame(stream, Object.fromEntries(short), dice.chance(0.5) ? 1 : 0)
}

/** What a client might say in one go, with something wrong in it more often than not. */
function someFrames(dice: Dice): Buffer {
  const frames: Buffer[] = []
  for (let count = 1 + dice.below(12); count > 0; count -= 1) {
    const stream = dice.chance(0.9) ? 1 + 2 * dice.below(6) : dice.below(2 ** 31)
    const payload = dice.bytes(dice.below(300))
    const flags = dice.chance(0.5) ? 1 : dice.below(256)
    const made = [
      () => someHeaders(stream, dice),
      () => someHeaders(stream, dice),
      () => frame('data', { stream, flags: dice.chance(0.3) ? 1 : 0, payload }),
      () => frame('data', { stream, flags, payload }),
      () => resetFrame(stream, dice.below(16)),
      () => frame('settings', { stream: 0, flags: 0, payload: dice.bytes(6 * dice.below(4)) }),
      () => frame('headers', { stream, flags, payload }),
    ][dice.below(7)]
    if (made) frames.push(made())
  }
  const whole = Buffer.concat(frames)
  return dice.chance(0.5) ? whole : damaged(whole, dice)
}

it('no frames of HTTP/2 make the server fail or leak', { timeout: fuzzMs + 60_000 }, async () => {
  await using folder = await createTempFolder()
  const authority = await createAuthority(folder.path)
  const files = await authority.issue('server')
  const data = join(folder.path, 'data')
  await using server = await startTlsServer({ data, ca: authority.ca, files })
  const port = Number(new URL(server.url).port)
  const before = await readProcessState(server.pid)
  const dice = createDice(createSeededRandom(fuzzSeed))
  const until = performance.now() + durationMs
  let count = 0
  async function work(): Promise<void> {
    while (performance.now() < until) {
      const socket = await connectHttp2(port)
      socket.write(someFrames(dice))
      count += 1
      // Some clients stay to hear the answer.
      await sleep(dice.below(30))
      socket.destroy()
    }
  }
  await Promise.all(Array.from({ length: workers }, work))
  console.log(`fuzz of HTTP/2: seed ${fuzzSeed}, ${count} connections`)
  expect(server.isRunning()).toBe(true)
  expect({ fuzzSeed, failures: loggedFailures(server.output()) }).toEqual({
    fuzzSeed,
    failures: [],
  })
  for (const version of ['1.1', '2'] as const) {
    expect(await server.curl(version, [`${server.url}/readyz`])).toMatchObject({ status: 200 })
  }
  const metric = async (name: string) => {
    const { body } = await server.curl('2', [`${server.url}/metrics`])
    return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(body)?.[1])
  }
  // The one that asks. Those that Node has lost sight of are found within half a minute.
  const connections = () => metric('dvcr_http_connections')
  await expect.poll(connections, { timeout: 60_000 }).toBe(1)
  const { openFiles } = await readProcessState(server.pid)
  expect(openFiles).toBeLessThan(before.openFiles + (await metric('dvcr_uploads_open')) + 5)
  expect((await readProcessState(server.pid)).rssBytes).toBeLessThan(rssLimitBytes)
  expect(await server.stop()).toBe(0)
  expect(count).toBeGreaterThan((durationMs / 1000) * 5)
})
