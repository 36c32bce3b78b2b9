import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { chunked, chunkSizes, collect, noise } from '../../test/fixtures/chunks.ts'
import { refusalIn } from '../../test/fixtures/refusal.ts'
import { tarOf, type TarContents } from '../../test/fixtures/tars.ts'
import { diskFiles } from './layer-files.ts'

/** A name alone is a file that says what it is, or a folder. */
type Entry = string | TarContents

const layerOf = (entries: readonly Entry[]): Promise<Buffer> =>
  tarOf(
    entries.map((entry) => {
      if (typeof entry !== 'string') return entry
      return { name: entry, contents: entry.endsWith('/') ? '' : `in ${entry}` }
    }),
  )

/** What is seen of layers, the lowest first, and which of them were asked for. */
async function seen(layers: readonly (readonly Entry[])[], sizes: readonly number[] = [700]) {
  const tars = await Promise.all(layers.map(layerOf))
  const opened: number[] = []
  const files: string[] = []
  const open = (index: number) => {
    opened.push(index)
    return chunked(tars[index] ?? Buffer.of(), sizes)
  }
  for await (const { name, contents } of diskFiles(layers.length, open)) {
    files.push(`${name}: ${(await collect(contents)).toString()}`)
  }
  return { files, opened }
}

describe('the files in /disk', () => {
  test.each<[string, Entry[][], string[], number[]]>([
    ['of one layer', [['disk/', 'disk/a']], ['a: in disk/a'], [0]],
    ['without the folder itself', [['disk/a']], ['a: in disk/a'], [0]],
    ['by other spellings', [['./disk/', './disk//a', '/etc/x']], ['a: in ./disk//a'], [0]],
    ['and none beside', [['diskfoo/a', 'mydisk/b', 'x/disk/c', 'a.img']], [], [0]],
    [
      'of the layer above, where both have it',
      [['disk/a'], [{ name: 'disk/a', contents: 'new' }]],
      ['a: new'],
      [1, 0],
    ],
    ['of both layers', [['disk/a'], ['disk/b']], ['b: in disk/b', 'a: in disk/a'], [1, 0]],
    [
      'but what a layer above removes',
      [['disk/a', 'disk/b'], ['disk/.wh.a']],
      ['b: in disk/b'],
      [1, 0],
    ],
    [
      'that were removed and came again',
      [['disk/a'], ['disk/.wh.a'], ['disk/a']],
      ['a: in disk/a'],
      [2, 1, 0],
    ],
    [
      'that a layer removes below and has itself',
      [['disk/a'], ['disk/.wh.a', 'disk/a']],
      ['a: in disk/a'],
      [1, 0],
    ],
    [
      'and nothing below an opaque folder',
      [['disk/a'], ['disk/b', 'disk/.wh..wh..opq']],
      ['b: in disk/b'],
      [1],
    ],
    ['and nothing below a removed folder', [['disk/a'], ['.wh.disk']], [], [1]],
    [
      'and nothing below an opaque root',
      [['disk/a'], ['.wh..wh..opq', 'disk/b']],
      ['b: in disk/b'],
      [1],
    ],
    ['but folders in there', [['disk/sub/', 'disk/a']], ['a: in disk/a'], [0]],
    [
      'but files of folders that were removed',
      [['disk/sub/x'], ['disk/.wh.sub', 'disk/a']],
      ['a: in disk/a'],
      [1, 0],
    ],
    [
      'but files of folders that were emptied',
      [
        ['disk/sub/x', 'disk/sub/y'],
        ['disk/sub/.wh..wh..opq', 'disk/a'],
      ],
      ['a: in disk/a'],
      [1, 0],
    ],
    [
      'of a folder that was something else below',
      [
        [{ name: 'disk', type: 'symlink', linkname: '/etc' }, 'disk/b'],
        ['disk/', 'disk/a'],
      ],
      ['a: in disk/a', 'b: in disk/b'],
      [1, 0],
    ],
  ])('are those %s', async (_what, layers, files, opened) => {
    expect(await seen(layers)).toEqual({ files, opened })
  })

  test.each<[string, Entry[][], string]>([
    ['a symlink', [[{ name: 'disk/a', type: 'symlink', linkname: '/etc/shadow' }]], 'IMAGE_UNSAFE'],
    ['a hard link', [['x', { name: 'disk/a', type: 'link', linkname: 'x' }]], 'IMAGE_UNSAFE'],
    ['a device', [[{ name: 'disk/a', type: 'block-device', devmajor: 8 }]], 'IMAGE_UNSAFE'],
    ['a pipe', [[{ name: 'disk/a', type: 'fifo' }]], 'IMAGE_UNSAFE'],
    [
      'a folder that is a link',
      [[{ name: 'disk', type: 'symlink', linkname: '/' }]],
      'IMAGE_UNSAFE',
    ],
    ['a file that goes up', [['disk/../etc/shadow']], 'IMAGE_UNSAFE'],
    ['a file that goes up elsewhere', [['../disk/a']], 'IMAGE_UNSAFE'],
    ['a file below', [['disk/sub/a']], 'FORMAT_UNSUPPORTED'],
    [
      'a link below one that was removed',
      [[{ name: 'disk/b', type: 'symlink', linkname: 'x' }], ['disk/.wh.a']],
      'IMAGE_UNSAFE',
    ],
  ])('are refused with %s', async (_what, layers, code) => {
    expect(await refusalIn(seen(layers))).toBe(code)
  })

  test('are refused in what is no tar, or cut off', async () => {
    const tar = await tarOf([{ name: 'disk/a', contents: 'x'.repeat(5000) }])
    for (const bytes of [noise(5000), tar.subarray(0, 3000), tar.subarray(0, 700)]) {
      const reading = async (): Promise<void> => {
        for await (const { contents } of diskFiles(1, () => chunked(bytes, [600]))) {
          await collect(contents)
        }
      }
      expect(await refusalIn(reading())).toBe('COMPRESSION_INVALID')
    }
  })

  test('are the same for any chunking', async () => {
    const long = { name: `disk/${'long'.repeat(40)}`, contents: 'y'.repeat(9000) }
    await fc.assert(
      fc.asyncProperty(chunkSizes(900), async (sizes) => {
        const { files } = await seen(
          [
            ['disk/a', 'other'],
            ['disk/.wh.a', long],
          ],
          sizes,
        )
        expect(files).toEqual([`${long.name.slice(5)}: ${long.contents}`])
      }),
      { numRuns: 40 },
    )
  })
})
