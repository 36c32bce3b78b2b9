import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { digestAlgorithm, digestOf, parseDigest } from '../../core/digest.ts'
import { createHashPool } from '../../core/hash-pool.ts'
import type { Finding as Damage } from '../../registry/admin/findings.ts'
import { fsck } from '../../registry/admin/fsck.ts'
import { openFolderStore } from '../../registry/stores/folder.ts'
import { connectTcp, readToEnd } from '../fixtures/tcp.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { someManifest, someRequest, type FuzzRequest } from './fuzz-requests.ts'
import { fuzzMs, fuzzSeed, loggedFailures, rssLimitBytes } from './fuzz-run.ts'
import { createDice, type Dice, type Known } from './fuzz-values.ts'
import { readProcessState } from './process-state.ts'
import { faultOf, parseAnswers, type RawAnswer } from './raw-http.ts'
import { createSeededRandom } from './seeded-random.ts'

const workers = 6
const mostKnown = 200

function createKnown(dice: Dice): Known {
  const blobs: Known['blobs'] = [Buffer.from('{}'), dice.bytes(100), randomBytes(70_000)]
  const first: Known = {
    names: ['a', 'b/c'],
    tags: ['v1', 'latest'],
    blobs,
    manifests: [Buffer.from('{}')],
    sessions: [],
  }
  const manifest = () => dice.tamed(true, () => someManifest(first, dice))
  return { ...first, manifests: [manifest(), manifest(), manifest()] }
}

/** Sends the request; what is not framed is ended, so that the server does not wait for more. */
async function answersTo(port: number, request: FuzzRequest): Promise<string> {
  const socket = await connectTcp(port)
  const reading = readToEnd(socket)
  socket.write(request.bytes)
  if (!request.isFramed) setTimeout(() => socket.end(), 50).unref()
  const late = sleep(20_000, 'late' as const, { ref: false })
  const text = await Promise.race([reading, late])
  socket.destroy()
  if (text === 'late') throw new Error('the connection was left open')
  return text
}

/** What is wrong with the answer; undefined where nothing is. */
function judge({ method, path, isFramed }: FuzzRequest, answer: RawAnswer): string | undefined {
  const { status, headers, body } = answer
  const fault = faultOf(answer, isFramed ? { method, path } : { method, path: '/' })
  if (fault !== undefined) return fault
  const digest = headers.get('docker-content-digest')
  const isWhole = isFramed && method === 'GET' && status === 200 && digest !== undefined
  if (!isWhole) return undefined
  const parsed = parseDigest(digest)
  const actual = digestOf(body, digestAlgorithm(parsed))
  return actual === parsed ? undefined : `bytes of ${actual} were sent as ${digest}`
}

/** Remembers what the server has taken, for later requests. */
function learn(known: Known, { method }: FuzzRequest, { status, headers }: RawAnswer): void {
  const location = headers.get('location')
  if (method === 'POST' && status === 202 && location !== undefined) {
    if (known.sessions.length >= mostKnown) known.sessions.shift()
    known.sessions.push(location)
  }
}

interface Finding {
  readonly fault: string
  readonly request: string
}

async function fuzz(port: number, until: number) {
  const dice = createDice(createSeededRandom(fuzzSeed))
  const known = createKnown(dice)
  const findings: Finding[] = []
  const statuses = new Map<number, number>()
  let count = 0
  async function work(): Promise<void> {
    while (performance.now() < until && findings.length < 5) {
      if (dice.chance(0.02) && known.manifests.length < mostKnown) {
        known.manifests.push(dice.tamed(dice.chance(0.5), () => someManifest(known, dice)))
      }
      const request = someRequest(known, dice)
      count += 1
      const note = (fault: string): void => {
        findings.push({ fault, request: request.bytes.toString('latin1').slice(0, 2000) })
      }
      try {
        const text = await answersTo(port, request)
        const answers = parseAnswers(text, [request.method])
        for (const answer of answers) {
          const fault = judge(request, answer)
          if (fault !== undefined) note(fault)
          learn(known, request, answer)
          statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1)
        }
        if (request.isFramed && answers.length === 0) note('no answer')
      } catch (error) {
        note(String(error))
      }
    }
  }
  await Promise.all(Array.from({ length: workers }, work))
  return { count, findings, statuses }
}

/** Uploads that may go on: each has its file open for a while. */
async function openUploads(server: RunningServer): Promise<number> {
  const text = await (await fetch(`${server.url}/metrics`)).text()
  return Number(/^dvcr_uploads_open (\d+)$/m.exec(text)?.[1])
}

/** What is wrong with the store that the server has left, all bytes of all blobs included. */
async function damagesOf(root: string): Promise<Damage[]> {
  await using hashPool = createHashPool({ threads: 1 })
  await using storage = await openFolderStore(root, { hashPool })
  const { objects, data } = storage
  const { signal } = new AbortController()
  const parts = { objects, data, hashPool, isFiles: true }
  const found: Damage[] = []
  for await (const event of fsck(parts, { dataDigests: true, signal, confirmAfterMs: 0 })) {
    if (!('finding' in event)) continue
    const { level, kind } = event.finding
    // Clients may delete a blob of an image.
    if (level === 'error' && kind !== 'blob-missing') found.push(event.finding)
  }
  return found
}

it(
  'no request makes the server fail, leak or send wrong bytes',
  { timeout: fuzzMs * 2 + 60_000 },
  async () => {
    await using folder = await createTempFolder()
    await using server = await startDvcr({ data: folder.path, args: ['--access-log'] })
    const port = Number(new URL(server.url).port)
    const before = await readProcessState(server.pid)
    const { count, findings, statuses } = await fuzz(port, performance.now() + fuzzMs)
    console.log(
      `fuzz: seed ${fuzzSeed}, ${count} requests, answers ${JSON.stringify([...statuses])}`,
    )
    expect({ fuzzSeed, findings }).toEqual({ fuzzSeed, findings: [] })
    expect(server.isRunning()).toBe(true)
    expect(loggedFailures(server.output())).toEqual([])
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200)
    expect((await fetch(`${server.url}/readyz`)).status).toBe(200)
    const spare = async () =>
      before.openFiles +
      (await openUploads(server)) -
      (await readProcessState(server.pid)).openFiles
    // Connections that this process keeps.
    await expect.poll(spare, { timeout: 20_000 }).toBeGreaterThan(-5)
    expect((await readProcessState(server.pid)).rssBytes).toBeLessThan(rssLimitBytes)
    await server.stop()
    expect(await damagesOf(folder.path)).toEqual([])
    // A fuzzer that gets nowhere proves nothing.
    for (const status of [200, 201, 202, 204, 206, 400, 404, 405, 415, 416, 421]) {
      expect([...statuses.keys()]).toContain(status)
    }
    expect(count).toBeGreaterThan((fuzzMs / 1000) * 20)
  },
)
