import { randomBytes } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { mkdir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { execa } from 'execa'
import { afterAll, describe, expect, it } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { openAdminStore, type AdminStore } from '../../test/fixtures/admin-parts.ts'
import { fillStore, pushBlob, pushImage, readEverything } from '../../test/fixtures/admin-store.ts'
import { createTempFolder } from '../../test/fixtures/temp-folder.ts'
import { refusalIn } from '../../test/fixtures/refusal.ts'
import { entryNames, parseEntryName, refuseTar } from './archive.ts'
import type { ImportReport } from './import.ts'
import { readTar } from '../../core/tar-reader.ts'
import { tarEnd, tarHeader, tarPadding } from './tar-writer.ts'

const owned = new AsyncDisposableStack()
const { signal } = new AbortController()
afterAll(() => owned.disposeAsync())

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Buffer[] = []
  for await (const chunk of chunks) all.push(Buffer.from(chunk))
  return Buffer.concat(all)
}

const exported = (store: AdminStore): Promise<Buffer> =>
  collect(store.store.admin.archive.export(signal))

async function* inChunks(bytes: Uint8Array, size = 70_001): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

async function imported(
  store: AdminStore,
  bytes: Uint8Array,
  options: { readonly replace?: boolean } = {},
): Promise<ImportReport> {
  let report: ImportReport | undefined
  const given = { replace: false, signal, ...options }
  for await (const event of store.store.admin.archive.import(inChunks(bytes), given)) {
    if ('report' in event) report = event.report
  }
  if (!report) throw new Error('no report')
  return report
}

describe('an archive', () => {
  it('brings a whole store into another one, identical', async () => {
    await using from = await openAdminStore()
    await using to = await openAdminStore()
    await fillStore(from.store)
    const archive = await exported(from)
    const report = await imported(to, archive)
    expect(report).toMatchObject({ leftOut: [], storedBlobs: report.blobs, repositories: 5 })
    expect(await readEverything(to.store)).toEqual(await readEverything(from.store))
    expect(await to.findings()).toEqual([])
  })

  it('is a tar that others can read, each blob once', async () => {
    await using from = await openAdminStore()
    const filled = await fillStore(from.store)
    await using folder = await createTempFolder()
    const path = join(folder.path, 'x.tar')
    await pipeline(from.store.admin.archive.export(signal), createWriteStream(path))
    const { stdout } = await execa('tar', ['-tf', path])
    const names = stdout.split('\n')
    expect(names[0]).toBe(entryNames.start)
    expect(names.at(-1)).toBe(entryNames.index)
    expect(new Set(names).size).toBe(names.length)
    for (const name of names) expect(parseEntryName(name)).toBeDefined()
    expect(names).toContain(entryNames.blob(filled.layer))
    await mkdir(join(folder.path, 'out'))
    await execa('tar', ['-xf', path, '-C', join(folder.path, 'out')])
    const wide = await readFile(join(folder.path, 'out', entryNames.blob(filled.wideLayer)))
    expect(digestOf(wide, 'sha512')).toBe(filled.wideLayer)
    expect(await readdir(join(folder.path, 'out'))).toContain('manifests')
  })

  it('can be imported again and again, and beside other images', async () => {
    await using from = await openAdminStore()
    await using to = await openAdminStore()
    await fillStore(from.store)
    await pushImage(to.store, 'mine', { tag: 'a' })
    await pushImage(to.store, 'team/debian', { tag: 'other' })
    const archive = await exported(from)
    await imported(to, archive)
    const before = await readEverything(to.store)
    const report = await imported(to, archive)
    expect(report).toMatchObject({ storedBlobs: 0, storedBytes: 0, leftOut: [] })
    expect(await readEverything(to.store)).toEqual(before)
    expect(before).toMatchObject(await readEverything(from.store))
    expect(await to.findings()).toEqual([])
  })

  it('moves no tag that points elsewhere, but with replace', async () => {
    await using from = await openAdminStore()
    await using to = await openAdminStore()
    const theirs = await pushImage(from.store, 'a', { tag: 't' })
    await pushImage(from.store, 'a', { tag: 'u' })
    const mine = await pushImage(to.store, 'a', { tag: 't' })
    const archive = await exported(from)
    expect(await refusalIn(imported(to, archive))).toBe('TAG_EXISTS')
    const { manifests } = to.store.registry.repository('a')
    expect((await manifests.get({ kind: 'tag', tag: 't' }))?.digest).toBe(mine.digest)
    expect(await manifests.get({ kind: 'tag', tag: 'u' })).toBeUndefined()
    await imported(to, archive, { replace: true })
    expect((await manifests.get({ kind: 'tag', tag: 't' }))?.digest).toBe(theirs.digest)
  })

  it('that is cut off anywhere tags nothing', async () => {
    await using from = await openAdminStore()
    await fillStore(from.store)
    const archive = await exported(from)
    for (let part = 0; part < 8; part++) {
      await using to = await openAdminStore()
      const cut = archive.subarray(0, Math.floor((archive.length - 2000) * (part / 8)) + part * 100)
      expect(await refusalIn(imported(to, cut))).toBe('ARCHIVE_INVALID')
      const objects = await to.store.objects.list('v1/repos/', {})
      expect(objects.filter((key) => /\/_[tmr]\//.test(key))).toEqual([])
      expect(await to.findings()).toEqual([])
    }
  })

  it('that is not one of ours is refused', async () => {
    await using to = await openAdminStore()
    const entry = (name: string, text: string): Uint8Array =>
      Buffer.concat([tarHeader(name, text.length, 0), Buffer.from(text), tarPadding(text.length)])
    const start = entry(entryNames.start, '{"format":1,"createdAt":"2026-01-01T00:00:00Z"}')
    const newer = entry(entryNames.start, '{"format":2,"createdAt":"2026-01-01T00:00:00Z"}')
    const orphan = entry(entryNames.blob(digestOf(Buffer.from('a'))), 'a')
    const archives = [
      Buffer.from('this is not a tar'.repeat(100)),
      Buffer.concat([entry('etc/passwd', 'x'), tarEnd]),
      Buffer.concat([newer, tarEnd]),
      Buffer.concat([start, tarEnd]),
      Buffer.concat([start, entry('../../etc/passwd', 'x'), tarEnd]),
      Buffer.concat([start, orphan, tarEnd]),
      Buffer.concat([start, entry(entryNames.index, '{}'), tarEnd]),
      Buffer.concat([start, entry(entryNames.folder('UPPER'), ''), tarEnd]),
      Buffer.alloc(0),
    ]
    for (const archive of archives) {
      expect(await refusalIn(imported(to, archive))).toBe('ARCHIVE_INVALID')
    }
  })

  it('with a damaged blob brings everything else and says what it does not', async () => {
    await using from = await openAdminStore()
    await using to = await openAdminStore()
    const damaged = await pushImage(from.store, 'a', { tag: 't', layer: randomBytes(400_000) })
    await pushImage(from.store, 'a', { tag: 'u' })
    const archive = await exported(from)
    const at = archive.indexOf(entryNames.blob(damaged.layer)) + 512 + 200_000
    archive.writeUInt8(archive.readUInt8(at) ^ 1, at)
    const report = await imported(to, archive)
    expect(report.leftOut.map(({ what }) => what)).toEqual([damaged.layer, damaged.digest, 't'])
    expect(await to.store.registry.repository('a').listTags({})).toEqual(['u'])
    expect(await to.findings()).toEqual([])
  })

  it('of a damaged store brings what is whole, and names the rest', async () => {
    await using from = await openAdminStore()
    await using to = await openAdminStore()
    const filled = await fillStore(from.store)
    await from.flipBit(filled.layer)
    const report = await imported(to, await exported(from))
    const names = report.leftOut.map(({ repository, what }) => `${repository} ${what}`)
    // Once, where it was come by first.
    expect(names).toContain(`copy ${filled.layer}`)
    expect(names).toContain(`team/debian ${filled.image}`)
    expect(names).toContain(`team/debian ${filled.index}`)
    expect(await to.store.registry.repository('team/debian').listTags({})).toEqual(['edge'])
    expect(await to.store.registry.repository('wide').blobs.stat(filled.wideLayer)).toBeDefined()
    // An artifact stays with a subject that does not come.
    const { manifests } = to.store.registry.repository('team/debian')
    expect(await manifests.get({ kind: 'digest', digest: filled.signature })).toBeDefined()
    expect(await to.findings()).toEqual([])
  })

  it('heals what a scrub took out of service', async () => {
    await using hurt = await openAdminStore()
    const filled = await fillStore(hurt.store)
    const archive = await exported(hurt)
    await hurt.flipBit(filled.layer)
    for await (const _ of hurt.createScrub().run({ bytesPerSecond: Infinity, signal })) continue
    const { blobs } = hurt.store.registry.repository('copy')
    expect(await blobs.stat(filled.layer)).toBeUndefined()
    expect(await imported(hurt, archive)).toMatchObject({ storedBlobs: 1, leftOut: [] })
    expect(await blobs.stat(filled.layer)).toBeDefined()
    expect(await hurt.findings()).toEqual([])
  })

  it('is consistent while images come and go', async () => {
    await using from = await openAdminStore()
    for (let i = 0; i < 8; i++) await pushImage(from.store, `r${i % 4}`, { tag: `t${i}` })
    let isRunning = true
    const { store } = from
    const changes = (async () => {
      for (let i = 0; isRunning; i++) {
        const { manifests, blobs } = store.registry.repository(`r${i % 4}`)
        const { digest } = await pushImage(store, `r${i % 4}`, { tag: `t${i % 8}` })
        if (i % 3 === 0) await manifests.delete({ kind: 'digest', digest }, { reclaim: true })
        if (i % 7 === 0) await blobs.delete(await pushBlob(store, `r${i % 4}`, randomBytes(10)))
      }
    })()
    for (let round = 0; round < 2; round++) {
      await using to = await openAdminStore()
      const archive = await exported(from)
      const report = await imported(to, archive)
      expect(report.leftOut).toEqual([])
      expect(report.tags).toBeGreaterThan(2)
      expect(await to.findings()).toEqual([])
    }
    isRunning = false
    await changes
  })

  it('holds blobs larger than 8 GiB', async () => {
    const size = 9 * 1024 ** 3
    const name = entryNames.blob(digestOf(Buffer.from('a'), 'sha512'))
    async function* tar(): AsyncGenerator<Uint8Array> {
      yield tarHeader(name, size, 1_700_000_000)
      const chunk = Buffer.alloc(4 * 1024 * 1024)
      for (let left = size; left > 0; left -= chunk.length) yield chunk.subarray(0, left)
      yield tarPadding(size)
      yield tarHeader('after', 0, 0)
      yield tarEnd
    }
    const found: [string, number, number][] = []
    for await (const entry of readTar(tar(), refuseTar)) {
      let bytes = 0
      for await (const chunk of entry.contents) bytes += chunk.length
      found.push([entry.name, entry.size, bytes])
    }
    expect(found).toEqual([
      [name, size, size],
      ['after', 0, 0],
    ])
  })
})
