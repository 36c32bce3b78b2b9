import { randomUUID } from 'node:crypto'
import { array, assert, asyncProperty, constantFrom, nat, record } from 'fast-check'
import { beforeEach, describe, expect, it } from 'vitest'
import type { ObjectStore } from '../core/object-store.ts'
import { isNightly } from './e2e/nightly.ts'

const bytes = (text: string): Uint8Array => Buffer.from(text)

/** Names that sort unlike their folders, look like paths, or are long. */
const awkwardNames = ['a', 'a-b', 'a.b', 'a0', 'A', '_', '-', '...', '.a', 'b'.repeat(200), '0']

/** What every `ObjectStore` promises. `open` gives an empty one, or one that others use too. */
export function objectStoreContract(
  name: string,
  open: () => Promise<{ readonly objects: ObjectStore } & AsyncDisposable>,
): void {
  describe(`${name} as an object store`, () => {
    let objects: ObjectStore
    beforeEach(async () => {
      const opened = await open()
      objects = opened.objects
      return () => opened[Symbol.asyncDispose]()
    })

    async function textAt(key: string): Promise<string | undefined> {
      const found = await objects.get(key)
      return found && Buffer.from(found.bytes).toString()
    }

    async function etagAt(key: string): Promise<string> {
      return (await objects.get(key))?.etag ?? ''
    }

    it('answers what was put last, and undefined for what is not there', async () => {
      expect(await objects.get('v1/a/b')).toBeUndefined()
      expect(await objects.put('v1/a/b', bytes('one'), 'always')).toBe(await etagAt('v1/a/b'))
      const first = await etagAt('v1/a/b')
      expect(await objects.put('v1/a/b', bytes('two'), 'always')).toBe(await etagAt('v1/a/b'))
      expect(await etagAt('v1/a/b')).not.toBe(first)
      expect(await textAt('v1/a/b')).toBe('two')
      expect(await objects.get('v1/a')).toBeUndefined()
      expect(await objects.get('v1/a/b/c')).toBeUndefined()
      expect(await objects.get('v1/none/at/all')).toBeUndefined()
    })

    it('keeps nothing, one byte, and 5 MiB', async () => {
      for (const size of [0, 1, 5 * 1024 * 1024]) {
        const value = Buffer.alloc(size, size % 251)
        await objects.put('v1/value', value, 'always')
        expect(value.equals((await objects.get('v1/value'))?.bytes ?? bytes('none'))).toBe(true)
      }
    })

    it('lets one of twenty writers put where nothing is', async () => {
      const texts = Array.from({ length: 20 }, () => randomUUID())
      const etags = await Promise.all(
        texts.map((text) => objects.put('v1/race', bytes(text), 'ifAbsent')),
      )
      const winners = texts.filter((_, at) => etags[at] !== undefined)
      expect(winners).toEqual([await textAt('v1/race')])
      expect(etags.find((etag) => etag !== undefined)).toBe(await etagAt('v1/race'))
    })

    it('puts only over the version named', async () => {
      const first = (await objects.put('v1/a', bytes('0'), 'always')) ?? ''
      expect(await objects.put('v1/b', bytes('0'), { ifMatch: first })).toBeUndefined()
      const increments = Array.from({ length: 20 }, async () => {
        for (;;) {
          const found = await objects.get('v1/a')
          const next = bytes(String(Number(Buffer.from(found?.bytes ?? []).toString()) + 1))
          if ((await objects.put('v1/a', next, { ifMatch: found?.etag ?? '' })) !== undefined) {
            return
          }
        }
      })
      await Promise.all(increments)
      expect(await textAt('v1/a')).toBe('20')
      expect(await objects.put('v1/a', bytes('x'), { ifMatch: first })).toBeUndefined()
      expect(await objects.get('v1/b')).toBeUndefined()
    })

    it('deletes once', async () => {
      await objects.put('v1/a', bytes(''), 'always')
      expect(await objects.delete('v1/a')).toBe(true)
      expect(await objects.delete('v1/a')).toBe(false)
      expect(await objects.delete('v1/none/a')).toBe(false)
      expect(await objects.get('v1/a')).toBeUndefined()
      expect(await objects.put('v1/a', bytes('again'), 'ifAbsent')).toBeDefined()
    })

    it('deletes only the version named', async () => {
      const first = (await objects.put('v1/a', bytes('one'), 'always')) ?? ''
      const second = (await objects.put('v1/a', bytes('two'), 'always')) ?? ''
      expect(await objects.delete('v1/a', { ifMatch: first })).toBe(false)
      expect(await textAt('v1/a')).toBe('two')
      expect(await objects.delete('v1/a', { ifMatch: second })).toBe(true)
      expect(await objects.delete('v1/a', { ifMatch: second })).toBe(false)
      expect(await objects.get('v1/a')).toBeUndefined()
    })

    it('never deletes what was written in between, where it says so', async () => {
      for (let round = 0; objects.conditionalDelete && round < 20; round++) {
        const ifMatch = (await objects.put('v1/a', bytes(`old ${round}`), 'always')) ?? ''
        const [deleted, written] = await Promise.all([
          objects.delete('v1/a', { ifMatch }),
          objects.put('v1/a', bytes(`new ${round}`), { ifMatch }),
        ])
        expect(await textAt('v1/a')).toBe(written === undefined ? undefined : `new ${round}`)
        expect(deleted).toBe(written === undefined)
        await objects.delete('v1/a')
      }
    })

    it('lists keys in byte order, in pages, at any depth, as a sorted list would', async () => {
      const keyOf = array(constantFrom(...awkwardNames), { minLength: 1, maxLength: 3 })
      const pages = record({ after: keyOf, limit: nat({ max: 5 }) })
      await assert(
        asyncProperty(array(keyOf, { maxLength: 12 }), array(pages), async (all, asked) => {
          const folder = `v1/${randomUUID()}/`
          // A name is a file here and a folder there, but never both in one place.
          const keys = [...new Set(all.map((names) => `${folder}${names.join('/f')}.x`))].toSorted()
          await Promise.all(keys.map((key) => objects.put(key, bytes('x'), 'always')))
          expect(await objects.list(folder, {})).toEqual(keys)
          for (const { after, limit } of asked) {
            const start = `${folder}${after.join('/f')}.x`
            const expected = keys.filter((key) => key > start).slice(0, limit)
            expect(await objects.list(folder, { after: start, limit })).toEqual(expected)
          }
          const folders = new Set(
            keys
              .map((key) => key.slice(folder.length).split('/'))
              .filter(({ length }) => length > 1)
              .map(([first]) => first),
          )
          const inOrder = [...folders].map((name) => `${name}/`).toSorted()
          expect(await objects.listFolders(folder)).toEqual(
            inOrder.map((name) => name.slice(0, -1)),
          )
        }),
        { numRuns: isNightly ? 200 : 12 },
      )
    })

    it('lists more than one page of the storage', async () => {
      const keys = Array.from({ length: 1100 }, (_, at) => `v1/many/${String(at).padStart(5, '0')}`)
      for (let at = 0; at < keys.length; at += 50) {
        const some = keys.slice(at, at + 50)
        await Promise.all(some.map((key) => objects.put(key, bytes(''), 'always')))
      }
      expect(await objects.list('v1/many/', {})).toEqual(keys)
      expect(await objects.list('v1/many/', { after: keys[20], limit: 1050 })).toEqual(
        keys.slice(21, 1071),
      )
      await Promise.all(keys.slice(0, 1000).map((key) => objects.delete(key)))
      expect(await objects.list('v1/many/', {})).toEqual(keys.slice(1000))
    })

    it('refuses keys that would leave it', async () => {
      for (const key of ['', '/a', 'a/', 'a//b', '../a', 'a/../b', 'a/./b', 'a b', 'ä', 'a\\b']) {
        await expect(async () => objects.get(key)).rejects.toThrow('not a storage key')
      }
    })
  })
}
