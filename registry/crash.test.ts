import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { digestOf, parseDigest, type Digest } from '../core/digest.ts'
import { createHashPool } from '../core/hash-pool.ts'
import { createLog } from '../core/log.ts'
import { parseManifest } from '../core/manifest.ts'
import { createTempFolder } from '../test/fixtures/temp-folder.ts'
import { openStore, type Store } from './store.ts'

const rounds = 12
const log = createLog('silent')
const { signal } = new AbortController()
const urlOf = (file: string): string => JSON.stringify(new URL(file, import.meta.url).href)

/** Writes blobs, uploads and images without end; says what was acknowledged, a line each. */
const program = `
  const { randomBytes } = await import('node:crypto')
  const { openStore } = await import(${urlOf('store.ts')})
  const { createHashPool } = await import(${urlOf('../core/hash-pool.ts')})
  const { createLog } = await import(${urlOf('../core/log.ts')})
  const { digestOf } = await import(${urlOf('../core/digest.ts')})
  const store = await openStore(process.argv[2], {
    hashPool: createHashPool({ threads: 1 }), log: createLog('silent'),
  })
  const { signal } = new AbortController()
  const repository = store.registry.repository('a')
  const say = (line) => process.stdout.write(JSON.stringify(line) + '\\n')
  async function* body(bytes) { yield bytes }
  async function image(i) {
    const bytes = randomBytes(i * 100_003 % 3_000_000)
    const writer = await repository.blobs.create({ signal, reserveBytes: i % 2 ? 0 : 65536 })
    await writer.write(bytes)
    if (i % 2 === 0) await writer.prepend(9, body(Buffer.from('head head')))
    const { digest, size } = await writer.finish()
    await writer.commit()
    say({ blob: digest })
    const mediaType = 'application/vnd.oci.image.manifest.v1+json'
    const layer = { mediaType: 'application/octet-stream', digest, size }
    const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, config: layer, layers: [] }))
    await repository.manifests.put({ mediaType, bytes: manifest }, { tag: 't' + i, replace: true })
    say({ tag: 't' + i })
  }
  async function upload(i) {
    const upload = await store.uploads.create('a')
    const bytes = randomBytes(i * 77_777 % 2_000_000 + 1)
    for (let sent = 0; sent < 3; sent++) {
      await upload.append({ bytes: body(bytes), at: undefined, expectedBytes: 0 })
      say({ upload: upload.id, offset: upload.offset })
    }
    const digest = digestOf(Buffer.concat([bytes, bytes, bytes]))
    say({ committing: upload.id })
    await upload.commit(digest, undefined)
    say({ blob: digest })
  }
  say({ ready: true })
  for (let i = 1; ; i++) await Promise.all([image(i), upload(i)])
`

const acknowledged = z.object({
  ready: z.boolean().optional(),
  blob: z.string().optional(),
  tag: z.string().optional(),
  upload: z.string().optional(),
  offset: z.number().optional(),
  committing: z.string().optional(),
})
type Acknowledged = z.output<typeof acknowledged>

/** Runs the program until `killAfterMs` after it is ready; what it had acknowledged. */
async function runAndKill(
  file: string,
  path: string,
  killAfterMs: number,
): Promise<Acknowledged[]> {
  // A file, because threads of a program given with -e do not start.
  const child = spawn(process.execPath, [file, path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = once(child, 'exit')
  const said: Acknowledged[] = []
  for await (const line of createInterface({ input: child.stdout })) {
    // The kill may cut the last line.
    if (!line.endsWith('}')) break
    const entry = acknowledged.parse(JSON.parse(line))
    said.push(entry)
    if (entry.ready === true) setTimeout(() => child.kill('SIGKILL'), killAfterMs)
  }
  const [, signalName] = await ended
  expect(signalName).toBe('SIGKILL')
  return said
}

async function readBlob(store: Store, digest: Digest): Promise<Buffer> {
  const chunks: Buffer[] = []
  const { blobs } = store.registry.repository('a')
  for await (const chunk of blobs.read(digest, { signal })) chunks.push(Buffer.from(chunk))
  return Buffer.concat(chunks)
}

/** What was acknowledged and is not there, or not as it was. */
async function findLost(store: Store, said: readonly Acknowledged[]): Promise<Acknowledged[]> {
  const { manifests } = store.registry.repository('a')
  const committing = new Set(said.map((line) => line.committing))
  async function isKept({ blob, tag, upload, offset = 0 }: Acknowledged): Promise<boolean> {
    if (blob !== undefined) return digestOf(await readBlob(store, parseDigest(blob))) === blob
    if (tag !== undefined) return (await manifests.get({ kind: 'tag', tag })) !== undefined
    if (upload === undefined || committing.has(upload)) return true
    return (await store.uploads.open('a', upload)).offset >= offset
  }
  const kept = await Promise.all(said.map(isKept))
  return said.filter((_, index) => kept[index] === false)
}

/** Whatever is visible is complete, acknowledged or not. */
async function expectComplete(store: Store): Promise<void> {
  const { manifests, listTags, blobs } = store.registry.repository('a')
  const [name] = await store.registry.listRepositories({})
  for (const tag of name === undefined ? [] : await listTags({})) {
    const found = await manifests.get({ kind: 'tag', tag })
    const { config } = parseManifest(found?.mediaType ?? '', found?.bytes ?? new Uint8Array())
    expect(config && (await blobs.stat(config.digest))).toEqual({ size: config?.size })
  }
}

/** Every data file belongs to a pointer or to a session that can go on. */
async function expectNoLeftovers(path: string): Promise<void> {
  const list = async (folder: string) => {
    await mkdir(join(path, folder), { recursive: true })
    const found = await readdir(join(path, folder), { recursive: true, withFileTypes: true })
    return found.filter((entry) => entry.isFile())
  }
  const records = [...(await list('v1/blobs')), ...(await list('v1/uploads'))]
  const texts = await Promise.all(
    records.map(({ parentPath, name }) => readFile(join(parentPath, name), 'utf8')),
  )
  for (const { name } of await list('v1/data')) {
    expect(texts.filter((text) => text.includes(name)).length).toBeGreaterThan(0)
  }
  expect(texts.filter((text) => text.includes('"import"'))).toEqual([])
  expect(await list('scratch')).toEqual([])
}

describe('a store whose process was killed', () => {
  it('has all that was acknowledged, shows nothing partial and keeps no leftovers', async () => {
    await using programs = await createTempFolder()
    const file = join(programs.path, 'writer.mjs')
    await writeFile(file, program)
    await using folder = await createTempFolder()
    let blobs = 0
    for (let round = 0; round < rounds; round++) {
      const said = await runAndKill(file, folder.path, Math.random() * 600)
      blobs += said.filter(({ blob }) => blob !== undefined).length
      await using hashPool = createHashPool({ threads: 1 })
      await using store = await openStore(folder.path, { hashPool, log })
      expect(await findLost(store, said)).toEqual([])
      await expectComplete(store)
      await expectNoLeftovers(folder.path)
    }
    expect(blobs).toBeGreaterThan(0)
  })
})
