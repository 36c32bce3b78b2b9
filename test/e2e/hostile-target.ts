import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { expect } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { readProcessState } from './process-state.ts'
import { exchange, faultOf, parseAnswers, type RawAnswer } from './raw-http.ts'
import { readStoreFolder } from './store-folder.ts'

/** What the one repository holds, `a`. */
export const blob = randomBytes(5000)
export const digest = digestOf(blob)
export const octets = 'content-type: application/octet-stream\r\n'

export interface RawRequest {
  readonly method?: string
  readonly path: string
  /** Header lines, each with its end. */
  readonly headers?: string
  readonly body?: string
}

/** A server to be asked for what it must refuse. */
export interface HostileTarget extends AsyncDisposable {
  readonly server: RunningServer
  readonly port: number
  /** The one answer to a request that is sent as it stands; it must be no fault. */
  ask(request: RawRequest): Promise<RawAnswer>
  statusOf(request: RawRequest): Promise<number>
  /** Where a new upload goes on. */
  startUpload(): Promise<string>
  /** What the requests have changed in the store, left open, or filled the memory with. */
  damage(): Promise<string[]>
}

const roomBytes = 150 * 1024 * 1024

export async function startHostileTarget(): Promise<HostileTarget> {
  await using stack = new AsyncDisposableStack()
  const { path: data } = stack.use(await createTempFolder())
  const server = stack.use(await startDvcr({ data }))
  const port = Number(new URL(server.url).port)
  const url = `${server.url}/v2/a/blobs/uploads/`
  const headers = { 'content-type': 'application/octet-stream' }
  const pushed = await fetch(`${url}?digest=${digest}`, { method: 'POST', headers, body: blob })
  if (!pushed.ok) throw new Error(`the good push was answered ${pushed.status}`)
  const before = await readStoreFolder(data)
  const state = await readProcessState(server.pid)

  async function ask(request: RawRequest): Promise<RawAnswer> {
    const { method = 'GET', path, headers: lines = '', body = '' } = request
    const start = `${method} ${path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n`
    const { text, isClosed } = await exchange(port, `${start}${lines}\r\n${body}`)
    const [answer, ...more] = parseAnswers(text, [method])
    if (!answer) throw new Error(`no answer to ${start.slice(0, 200)}`)
    const fault = faultOf(answer, { method, path })
    expect({ isClosed, more, fault }).toEqual({ isClosed: true, more: [], fault: undefined })
    return answer
  }

  const owned = stack.move()
  return {
    server,
    port,
    ask,
    statusOf: async (request) => (await ask(request)).status,
    async startUpload() {
      const started = await fetch(url, { method: 'POST' })
      return started.headers.get('location') ?? ''
    },
    async damage() {
      const damages: string[] = []
      for (const path of ['/healthz', '/readyz']) {
        if (!(await fetch(server.url + path)).ok) damages.push(`${path} fails`)
      }
      if (!isDeepStrictEqual(await readStoreFolder(data), before)) damages.push('the store differs')
      // Two more: connections that this process keeps. Others need a moment to end.
      const isOpen = async () =>
        (await readProcessState(server.pid)).openFiles > state.openFiles + 2
      for (let rest = 100; rest > 0 && (await isOpen()); rest -= 1) await sleep(100)
      if (await isOpen()) damages.push('files are left open')
      const { rssBytes } = await readProcessState(server.pid)
      if (rssBytes > state.rssBytes + roomBytes) damages.push(`memory grew to ${rssBytes}`)
      return damages
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}
