import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { startWebServer, type WebServer } from '../fixtures/web-server.ts'
import { createImportsApi, readVisible, type ImportsApi } from '../e2e/imports-api.ts'
import { readStoreFolder } from '../e2e/store-folder.ts'
import { corpus } from './corpus.ts'
import type { CorpusFile, DiskOf } from './corpus-file.ts'
import { formatsPage } from './page.ts'
import { isSameDisk, rawBy, storedDisk } from './stored-disk.ts'
import { mib, openWorkshop, type Workshop } from './workshop.ts'

const page = join(import.meta.dirname, '../../docs/formats.md')
const mostMemory = 400 * mib

const owned = new AsyncDisposableStack()
let workshop: Workshop
let web: WebServer
let server: RunningServer
let imports: ImportsApi
let data: string
/** What the web server has, and the file as it was made. */
const served = new Map<string, Buffer>()
/** Those that it does not tell the length of. */
const untold = new Set(
  Object.values(corpus)
    .flat()
    .filter(({ isLengthUntold }) => isLengthUntold)
    .map(({ name }) => name),
)
const images: string[] = []
const answers: string[] = []

beforeAll(async () => {
  workshop = owned.use(await openWorkshop())
  web = owned.use(
    await startWebServer((request, response) => {
      const name = request.url?.slice(1) ?? ''
      const type = name.endsWith('.html') ? 'text/html' : 'application/octet-stream'
      const file = served.get(name) ?? Buffer.alloc(0)
      const length = untold.has(name) ? {} : { 'content-length': file.length }
      response.writeHead(200, { 'content-type': type, ...length }).end(file)
    }),
  )
  data = owned.use(await createTempFolder()).path
  server = owned.use(await startDvcr({ data, args: ['--max-virtual-size', '64Mi'] }))
  imports = createImportsApi(server.url)
})
afterAll(() => owned.disposeAsync())

/** What is left of the server after a file. */
async function condition() {
  const ready = await fetch(`${server.url}/readyz`)
  const status = await readFile(`/proc/${server.pid}/status`, 'utf8')
  const peakBytes = Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? Infinity) * 1024
  return { isReady: ready.ok, isSmall: peakBytes < mostMemory }
}

type Outcome =
  | { readonly code: string; readonly message: string; readonly isRetryable: boolean }
  | { readonly isSame: boolean; readonly storedFormat: string; readonly warnings: string }

/** What the server makes of the file. */
async function importFile({ name, verdict, make }: CorpusFile): Promise<Outcome> {
  const file = await make(workshop)
  served.set(name, file)
  const image = name.toLowerCase()
  const record = await imports.run({ source: `${web.origin}/${name}`, name: image })
  served.delete(name)
  answers.push(JSON.stringify(record))
  if (record.error) {
    const { code, message, retryable } = record.error
    return { code, message, isRetryable: retryable }
  }
  images.push(image)
  const stored = await storedDisk(server.url, image)
  const unpacked = await unpack(name, file)
  const isSame =
    verdict.kind === 're-encoded'
      ? isSameDisk(await rawBy('qcow2', stored), await diskOf(verdict.disk, unpacked))
      : stored.equals(unpacked)
  const warnings = record.warnings.join('\n')
  return { isSame, storedFormat: record.image?.storedFormat ?? '', warnings }
}

async function diskOf(disk: DiskOf, unpacked: Buffer): Promise<Buffer> {
  if (disk === 'workshop') return workshop.disk
  return disk === 'file' ? unpacked : rawBy(disk, unpacked)
}

const textWith = (part: string): unknown => expect.stringContaining(part)

function expectedOf({ name, verdict }: CorpusFile): Record<string, unknown> {
  switch (verdict.kind) {
    case 'refused':
      return { code: verdict.code, message: textWith(verdict.names), isRetryable: false }
    case 'accepted':
    case 're-encoded': {
      const { warning } = verdict
      const warnings = warning === undefined ? '' : textWith(warning)
      const isIso = verdict.kind === 'accepted' && name.endsWith('.iso')
      return { isSame: true, storedFormat: isIso ? 'iso' : 'qcow2', warnings }
    }
  }
}

/** Without what its name says it is wrapped in. */
async function unpack(name: string, file: Buffer): Promise<Buffer> {
  const tools: Readonly<Record<string, string>> = { gz: 'gzip -dc', xz: 'xz -dc' }
  const endings = name.split('.').toReversed()
  let unpacked = file
  for (const ending of endings) {
    const tool = tools[ending]
    if (tool === undefined) return unpacked
    unpacked = await workshop.run(`${tool} <"$1" >"$2"`, unpacked)
  }
  return unpacked
}

describe.each(Object.entries(corpus))('%s', (_, files) => {
  it.each(files.map((file) => ({ ...file, kind: file.verdict.kind })))(
    '$name is $kind',
    async (file) => {
      expect(await importFile(file)).toEqual(expectedOf(file))
      expect(await condition()).toEqual({ isReady: true, isSmall: true })
    },
  )
})

describe('after all of them', () => {
  it('the store holds what was accepted and nothing else', async () => {
    const contents = await readStoreFolder(data)
    expect(contents).toMatchObject({ broken: [], orphans: [], uploads: [], scratch: [] })
    expect(Object.keys(await readVisible(server.url))).toEqual(images.toSorted())
  })

  it('nothing of a file of the machine is stored, answered or logged', async () => {
    const { token } = workshop.canary
    expect((await readFile(workshop.canary.path)).includes(token)).toBe(true)
    expect(server.output()).not.toContain(token)
    expect(answers.join('\n')).not.toContain(token)
    for (const entry of await readdir(data, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue
      const path = join(entry.parentPath, entry.name)
      expect({ path, found: (await readFile(path)).includes(token) }).toEqual({
        path,
        found: false,
      })
    }
  })

  it('docs/formats.md says so', async () => {
    await expect(formatsPage()).toMatchFileSnapshot(page)
  })
})
