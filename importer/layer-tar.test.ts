import { createHash } from 'node:crypto'
import { open, readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import * as fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { noise } from '../test/fixtures/chunks.ts'
import { createTempFolder, type TempFolder } from '../test/fixtures/temp-folder.ts'
import { fileOffset, tarEnd, tarHead } from './layer-tar.ts'

let folder: TempFolder
beforeEach(async () => {
  folder = await createTempFolder()
})
afterEach(() => folder[Symbol.asyncDispose]())

/** A whole layer on disk; a sparse file where no contents are given. */
async function writeLayer(fileName: string, size: number, contents?: Buffer): Promise<string> {
  const path = join(folder.path, 'layer.tar')
  const end = tarEnd(size)
  await writeFile(path, tarHead(fileName, size))
  await truncate(path, fileOffset + size)
  await using file = await open(path, 'r+')
  if (contents) await file.write(contents, 0, contents.length, fileOffset)
  await file.write(end, 0, end.length, fileOffset + size)
  return path
}

const run = async (command: string, ...args: string[]): Promise<string> => {
  const { stdout } = await execa(command, args, { env: { TZ: 'UTC', LC_ALL: 'C' } })
  return stdout
}

const readWithPython = `
import json, sys, tarfile
with tarfile.open(sys.argv[1]) as tar:
    print(json.dumps([[m.name, m.size, m.mode, m.uid, m.gid, m.mtime, m.offset_data, m.isreg()] for m in tar]))
`

test('the head is what it was with the first release', () => {
  const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
  expect(sha256(tarHead('disk.qcow2', 16 * 1024 * 1024))).toBe(
    'f980d73183214b68a817a2e5a142803262e8758607d17d2bef942b175455e528',
  )
  expect(sha256(tarHead('disk.img', 10 * 1024 ** 4))).toBe(
    '1cf9b3b103c70f612c7de116cd072218b7a2db5c688d383adc06cc9fd1de6d49',
  )
})

test('the head ends at byte 4096 for every size, and the archive at a full block', () => {
  const size = fc.oneof(fc.nat(10_000), fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER - 8192 }))
  fc.assert(
    fc.property(size, fc.constantFrom('disk.qcow2', 'disk.iso', 'disk.img'), (bytes, name) => {
      expect(tarHead(name, bytes)).toHaveLength(fileOffset)
      const end = tarEnd(bytes)
      expect((bytes + end.length) % 512).toBe(0)
      expect(end.length).toBeGreaterThanOrEqual(1024)
      expect(end.length).toBeLessThan(1024 + 512)
      expect(end.every((byte) => byte === 0)).toBe(true)
    }),
  )
})

test('GNU tar lists and unpacks it', async () => {
  const contents = noise(12_345)
  const path = await writeLayer('disk.qcow2', contents.length, contents)
  const listed = await run('tar', '--numeric-owner', '-tvf', path)
  expect(listed.split('\n').map((line) => line.split(/\s+/))).toEqual([
    ['drwxr-xr-x', '107/107', '0', '1970-01-01', '00:00', 'disk/'],
    ['-rw-r--r--', '107/107', '12345', '1970-01-01', '00:00', 'disk/disk.qcow2'],
  ])
  await run('tar', '--no-same-owner', '-C', folder.path, '-xf', path)
  expect((await readFile(join(folder.path, 'disk/disk.qcow2'))).equals(contents)).toBe(true)
})

test('bsdtar lists it', async () => {
  const path = await writeLayer('disk.iso', 5)
  const listed = await run('bsdtar', '--numeric-owner', '-tvf', path)
  expect(listed.split('\n').map((line) => line.split(/\s+/).slice(2, 5))).toEqual([
    ['107', '107', '0'],
    ['107', '107', '5'],
  ])
  expect(listed).toContain('disk/disk.iso')
})

test.each([0, 513, 8 * 1024 ** 3 - 1, 8 * 1024 ** 3, 3 * 1024 ** 4])(
  'Python and GNU tar find a file of %d bytes at byte 4096',
  async (size) => {
    const path = await writeLayer('disk.img', size)
    const members: unknown = JSON.parse(await run('python3', '-c', readWithPython, path))
    expect(members).toEqual([
      ['disk', 0, 0o755, 107, 107, 0, 512, false],
      ['disk/disk.img', size, 0o644, 107, 107, 0, fileOffset, true],
    ])
    // GNU tar reads all that it passes over in a pipe, but seeks in a file.
    expect(await run('tar', '-tvf', path)).toMatch(
      new RegExp(` ${size} \\S+ \\S+ disk/disk\\.img$`),
    )
  },
)

test('the size stands in the header too, for readers without PAX', () => {
  const size = 9 * 1024 ** 4 + 7
  const header = tarHead('disk.img', size).subarray(fileOffset - 512)
  expect(header.readUInt8(124)).toBe(0x80)
  expect(header.readBigUInt64BE(128)).toBe(BigInt(size))
})
