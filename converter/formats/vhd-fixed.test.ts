import { readFile } from 'node:fs/promises'
import * as fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { qemuImg, scratchFolder } from '../qemu-oracle.ts'
import { withoutVhdFooter } from './vhd-fixed.ts'

const diskBytes = 1024 * 1024
const owned = new AsyncDisposableStack()
let image: Buffer

beforeAll(async () => {
  const scratch = owned.use(await scratchFolder())
  const path = scratch.file('fixed')
  const options = ['-o', 'subformat=fixed,force_size=on']
  await qemuImg('create', '-q', '-f', 'vpc', ...options, path, `${diskBytes}`)
  image = await readFile(path)
})
afterAll(() => owned.disposeAsync())

/** One reused buffer, as sources may do it. */
async function* inChunks(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array, void> {
  const buffer = Buffer.alloc(size)
  for (let at = 0; at < bytes.length; at += size) {
    const part = bytes.subarray(at, at + size)
    buffer.set(part)
    yield buffer.subarray(0, part.length)
    buffer.fill(0xff)
  }
}

async function read(bytes: Uint8Array, chunk = 65_536) {
  let virtualSize: number | undefined
  const parts: Buffer[] = []
  for await (const part of withoutVhdFooter(
    inChunks(bytes, chunk),
    0,
    (size) => (virtualSize = size),
  ))
    parts.push(Buffer.from(part))
  return { disk: Buffer.concat(parts), virtualSize }
}

it('gives the disk, however it comes', async () => {
  expect(image.length).toBe(diskBytes + 512)
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 100, max: 2000 }), async (chunk) => {
      const { disk, virtualSize } = await read(image, chunk)
      expect(virtualSize).toBe(diskBytes)
      expect(disk.equals(image.subarray(0, diskBytes))).toBe(true)
    }),
    { numRuns: 20 },
  )
})

it('gives all of what has no such footer', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.nat({ max: 3000 }),
      fc.integer({ min: 1, max: 2000 }),
      async (size, chunk) => {
        const bytes = image.subarray(0, size)
        expect((await read(bytes, chunk)).disk.equals(bytes)).toBe(true)
      },
    ),
  )
})

it('refuses a footer that does not belong there', async () => {
  const changed = (at: number, byte: number): Buffer => {
    const bytes = Buffer.from(image)
    bytes[diskBytes + at] = byte
    return bytes
  }
  await expect(read(changed(63, 4))).rejects.toMatchObject({ code: 'IMAGE_UNSAFE' })
  const cut = Buffer.concat([image.subarray(0, diskBytes - 512), image.subarray(diskBytes)])
  await expect(read(cut)).rejects.toMatchObject({ code: 'IMAGE_INCOMPLETE' })
  const long = Buffer.concat([Buffer.alloc(512), image])
  await expect(read(long)).rejects.toMatchObject({ code: 'IMAGE_UNSAFE' })
})
