import { execFileSync } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { diskImage } from '../fixtures/images.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { startWebServer, type WebServer } from '../fixtures/web-server.ts'
import { createImportsApi, readVisible, type ImportsApi } from './imports-api.ts'
import { isNightly } from './nightly.ts'
import { readProcessState } from './process-state.ts'

const mebibyte = 1024 * 1024
const partBytes = 64 * mebibyte
const parts = isNightly ? 160 : 16
const bombBytes = parts * partBytes

const piped =
  (command: string, ...args: string[]) =>
  (bytes: Uint8Array): Buffer =>
    execFileSync(command, args, { input: bytes })
const packers = {
  gz: (bytes: Uint8Array): Buffer => gzipSync(bytes, { level: 1 }),
  xz: piped('xz', '-0', '-c'),
  zst: (bytes: Uint8Array): Buffer => zstdCompressSync(bytes),
  bz2: piped('bzip2', '-1', '-c'),
  lz4: piped('lz4', '-1', '-c', '-q'),
}
type Ending = keyof typeof packers
const inEvery = (bytes: Uint8Array): Record<Ending, Buffer> => ({
  gz: packers.gz(bytes),
  xz: packers.xz(bytes),
  zst: packers.zst(bytes),
  bz2: packers.bz2(bytes),
  lz4: packers.lz4(bytes),
})
const endings = ['gz', 'xz', 'zst', 'bz2', 'lz4'] as const satisfies readonly Ending[]

const owned = new AsyncDisposableStack()
let zeros: Record<Ending, Buffer>
let nothing: Record<Ending, Buffer>
let qcow2: Buffer
let server: RunningServer
let narrow: RunningServer
let imports: ImportsApi
let web: WebServer

/**
 * The file that a path names: `zeros.gz` is a bomb, `zeros.gz.xz` one in another, `endless-zeros.gz`
 * has no end, `endless-nothing.gz` holds nothing, `endless-qcow2.gz` begins with a small disk;
 * `slow-` is endless too.
 */
async function* fileAt(path: string): AsyncGenerator<Uint8Array, void> {
  const [, speed, what, first = '', ...outer] =
    /^\/(endless|slow)?-?(\w+)\.(\w+)(?:\.(\w+))?(?:\.(\w+))?$/.exec(path) ?? []
  const inner = endingOf(first)
  const part = (what === 'nothing' ? nothing : zeros)[inner]
  if (outer[0] !== undefined) {
    let wrapped: Uint8Array = Buffer.concat(Array.from({ length: parts }, () => part))
    for (const ending of outer) if (ending) wrapped = packers[endingOf(ending)](wrapped)
    yield wrapped
  } else if (speed === undefined) {
    for (let count = 0; count < parts; count++) yield part
  } else {
    if (what === 'qcow2') yield packers[inner](qcow2)
    const many = Buffer.concat(Array.from({ length: Math.ceil(65_536 / part.length) }, () => part))
    for (;;) {
      yield many
      if (speed === 'slow') await sleep(20)
    }
  }
}

function endingOf(text: string): Ending {
  const ending = endings.find((one) => one === text)
  if (!ending) throw new Error(`no format ${text}`)
  return ending
}

beforeAll(async () => {
  zeros = inEvery(Buffer.alloc(partBytes))
  nothing = inEvery(Buffer.alloc(0))
  qcow2 = await readFile(await diskImage('boot-sector', 'zstd.qcow2'))
  web = owned.use(
    await startWebServer((request, response) => {
      Readable.from(fileAt(request.url ?? '')).pipe(response)
    }),
  )
  const data = owned.use(await createTempFolder()).path
  server = owned.use(await startDvcr({ data }))
  imports = createImportsApi(server.url)
  const other = owned.use(await createTempFolder()).path
  const args = ['--max-virtual-size', String(bombBytes - partBytes)]
  narrow = owned.use(await startDvcr({ data: other, args }))
})
afterAll(() => owned.disposeAsync())

const run = (path: string) =>
  imports.run({ source: `${web.origin}/${path}`, name: 'bomb', replace: true })

describe.each(endings)('zeros from %s', (ending) => {
  it('are a disk without data, within the limit, in bounded memory', async () => {
    const record = await run(`zeros.${ending}`)
    expect(record).toMatchObject({ state: 'succeeded', image: { virtualSize: bombBytes } })
    expect(record.image?.storedSize).toBeLessThan(mebibyte)
    const { rssBytes } = await readProcessState(server.pid)
    expect(rssBytes).toBeLessThan(400e6)
  })

  it('are refused over the limit, which is named', async () => {
    const narrowImports = createImportsApi(narrow.url)
    const source = `${web.origin}/zeros.${ending}`
    const { state, error } = await narrowImports.run({ source, name: 'bomb' })
    expect({ state, code: error?.code }).toEqual({ state: 'failed', code: 'SIZE_EXCEEDED' })
    expect(error?.message).toContain(String(bombBytes - partBytes))
    expect(await readVisible(narrow.url)).toEqual({})
  })
})

describe('layers of bombs', () => {
  it('two of them are within the limit what one is', async () => {
    expect(await run('zeros.gz.xz')).toMatchObject({
      state: 'succeeded',
      image: { virtualSize: bombBytes },
    })
  })

  it('three of them are refused before they are unpacked', async () => {
    const { error, image } = await run('zeros.gz.zst.gz')
    expect(error?.code).toBe('FORMAT_UNSUPPORTED')
    expect(image).toBeUndefined()
  })

  it('a disk of known size may not go on for ever behind its end', async () => {
    const { error } = await run('endless-qcow2.gz')
    expect(error).toMatchObject({
      code: 'SIZE_EXCEEDED',
      message: expect.stringContaining('its header says a disk of'),
    })
  })
})

describe.each(endings)('an endless %s', (ending) => {
  it.each(['zeros', 'nothing'])(
    'of %s leaves the server to others and is cancelled at once',
    async (what) => {
      const idleMs = await answerMs()
      const { id } = await imports.create({
        source: `${web.origin}/slow-${what}.${ending}`,
        name: `slow-${what}-${ending}`,
      })
      await imports.until(id, ({ progress }) => progress.bytes > 0)
      const startedMs = performance.now()
      const busyMs = await answerMs()
      // As many times as its threads and this machine's other work may take of it.
      expect(busyMs).toBeLessThan(50 * Math.max(idleMs, 1))
      await sleep(1000)
      const ranMs = performance.now() - startedMs
      const cancelledMs = performance.now()
      await imports.cancel(id)
      expect(await imports.finished(id)).toMatchObject({ state: 'cancelled' })
      expect(performance.now() - cancelledMs).toBeLessThan(ranMs)
    },
  )
})

it.each(isNightly ? endings : (['gz', 'xz'] as const))(
  'an endless %s of nothing ends by itself',
  async (ending) => {
    const { error } = await run(`endless-nothing.${ending}`)
    expect(error).toMatchObject({
      code: 'COMPRESSION_INVALID',
      message: expect.stringContaining('of it hold 0 bytes'),
    })
  },
)

/** Of the slowest of many small requests. */
async function answerMs(): Promise<number> {
  let slowest = 0
  for (let count = 0; count < 50; count++) {
    const startedMs = performance.now()
    await (await fetch(`${server.url}/v2/`)).text()
    slowest = Math.max(slowest, performance.now() - startedMs)
  }
  return slowest
}
