import { describe, expect, it } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { createMemoryObjects } from '../../test/model/memory-objects.ts'
import { keys } from '../keys.ts'
import { parseKey, walkKeys, walkOutside } from './keyspace.ts'

const digest = digestOf(Buffer.from('a'))
const wide = digestOf(Buffer.from('a'), 'sha512')
const uuid = 'aa7cca7a-5a3f-4c21-9d3b-3d9d4d1c4a11'
const longName = `a/${'b'.repeat(250)}`

describe('a key', () => {
  it.each([
    [keys.pointer(wide), { kind: 'pointer', digest: wide }],
    [
      keys.reference(digest, longName, 'n'),
      { kind: 'reference', digest, name: longName, nonce: 'n' },
    ],
    [keys.data(uuid), { kind: 'data', uuid }],
    [`${keys.data(uuid)}.12`, { kind: 'data', uuid }],
    [keys.upload(uuid), { kind: 'session', id: uuid }],
    [keys.quarantine(wide, uuid), { kind: 'quarantine', digest: wide, uuid }],
    [keys.link('a/b', digest), { kind: 'link', name: 'a/b', digest }],
    [keys.manifest(longName, wide), { kind: 'manifest', name: longName, digest: wide }],
    [keys.referrer('a', wide, digest), { kind: 'referrer', name: 'a', subject: wide, digest }],
    [keys.tag('a/b', '_T.a-1'), { kind: 'tag', name: 'a/b', tag: '_T.a-1' }],
    [keys.quota('team/'), { kind: 'other' }],
    ['layout.json', { kind: 'other' }],
  ])('%s is read', (key, thing) => {
    expect(parseKey(key)).toEqual(thing)
  })

  it.each([
    keys.pointer(digest).replace(/\/..\//, '/zz/'),
    keys.pointer(digest).toUpperCase(),
    keys.pointer(digest).replace('.json', ''),
    keys.data(uuid).replace('/aa/', '/bb/'),
    `${keys.data(uuid)}.0`,
    keys.upload('x'),
    keys.link('UPPER', digest),
    keys.link('a', digest).replace('sha256', 'sha512'),
    keys.tag('a', '.hidden'),
    `${keys.tag('a', 'b')}/c`,
    'v1/repos/a/_x/b',
    'v1/repos/a',
    'v1/other.json',
    'layout.json.bak',
  ])('%s is none', (key) => {
    expect(parseKey(key)).toBeUndefined()
  })
})

it('keys are walked in pages, and those outside of folders found without walking these', async () => {
  const objects = createMemoryObjects()
  const inside = Array.from({ length: 4500 }, (_, at) => `v1/repos/k${String(at).padStart(5, '0')}`)
  for (const key of [...inside, 'v1/a', 'v1/reposit', 'v1/z/b', 'x']) {
    await objects.put(key, Buffer.of(), 'ifAbsent')
  }
  const pages: number[] = []
  for await (const page of walkKeys(objects, 'v1/repos/', 'v1/repos/k00099'))
    pages.push(page.length)
  expect(pages).toEqual([2000, 2000, 400])
  let lists = 0
  const counted = {
    list: (folder: string, options: object) => {
      lists++
      return objects.list(folder, options)
    },
  }
  const outside: string[] = []
  for await (const key of walkOutside(counted, '', ['v1/repos/'])) outside.push(key)
  expect(outside).toEqual(['v1/a', 'v1/reposit', 'v1/z/b', 'x'])
  expect(lists).toBeLessThan(10)
})
