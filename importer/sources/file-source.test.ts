import { appendFile, mkdir, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { collect, noise } from '../../test/fixtures/chunks.ts'
import { createTempFolder, type TempFolder } from '../../test/fixtures/temp-folder.ts'
import { openFileSource, openStreamSource } from './file-source.ts'

const mib = 1024 * 1024
const { signal } = new AbortController()
let folder: TempFolder
let path: string
beforeEach(async () => {
  folder = await createTempFolder()
  path = join(folder.path, 'disk.raw')
})
afterEach(() => folder[Symbol.asyncDispose]())

test.each([
  0,
  1,
  511,
  mib - 1,
  mib,
  mib + 1,
  2 * mib - 1,
  2 * mib,
  2 * mib + 1,
  3 * mib,
  5 * mib + 7,
])('a file of %d bytes comes whole', async (size) => {
  const bytes = noise(size)
  await writeFile(path, bytes)
  await using source = await openFileSource(path, { signal })
  expect([source.label, source.length]).toEqual(['disk.raw', size])
  expect((await collect(source.body)).equals(bytes)).toBe(true)
})

test.each([1000, mib, 2 * mib, 3 * mib - 1])(
  'a file of %d bytes that grows meanwhile ends where it ended before',
  async (size) => {
    const bytes = noise(size)
    await writeFile(path, bytes)
    await using source = await openFileSource(path, { signal })
    await appendFile(path, noise(2 * mib))
    expect((await collect(source.body)).equals(bytes)).toBe(true)
  },
)

test.each([
  [3 * mib, 0],
  [3 * mib, 100],
  [3 * mib, mib],
  [3 * mib, 3 * mib - 1],
  [1000, 999],
])('a file of %d bytes cut to %d meanwhile is told', async (size, left) => {
  await writeFile(path, noise(size))
  await using source = await openFileSource(path, { signal })
  await truncate(path, left)
  await expect(collect(source.body)).rejects.toMatchObject({ code: 'SOURCE_CHANGED' })
})

test('what is no readable file is refused with a reason', async () => {
  const open = (name: string) => openFileSource(join(folder.path, name), { signal })
  await mkdir(join(folder.path, 'folder'))
  await expect(open('none')).rejects.toMatchObject({ code: 'SOURCE_NOT_FOUND' })
  await expect(open('folder')).rejects.toMatchObject({ code: 'SOURCE_INVALID' })
  await expect(openFileSource('/dev/null', { signal })).rejects.toMatchObject({
    code: 'SOURCE_INVALID',
  })
})

test('an abort stops it with its reason', async () => {
  await writeFile(path, noise(4 * mib))
  const stop = new AbortController()
  await using source = await openFileSource(path, { signal: stop.signal })
  const reading = async (): Promise<void> => {
    for await (const chunk of source.body) stop.abort(new Error(`enough after ${chunk.length}`))
  }
  await expect(reading()).rejects.toThrow(`enough after ${mib}`)
})

test('it may be closed unread and while reading ahead', async () => {
  await writeFile(path, noise(4 * mib))
  await (await openFileSource(path, { signal }))[Symbol.asyncDispose]()
  const source = await openFileSource(path, { signal })
  for await (const chunk of source.body) {
    expect(chunk).toHaveLength(mib)
    break
  }
  await source[Symbol.asyncDispose]()
})

test('a stream has a label and no length', async () => {
  async function* stdin(): AsyncGenerator<Uint8Array> {
    yield Buffer.from('abc')
  }
  await using source = openStreamSource('stdin', stdin())
  expect([source.label, source.length]).toEqual(['stdin', undefined])
  expect((await collect(source.body)).toString()).toBe('abc')
})
