import { expect, test } from 'vitest'
import { clusterBytes } from './cluster-batch.ts'
import { createDataPacker } from './data-packer.ts'

const plain = new Uint8Array(clusterBytes).fill(1)
const frame = (size: number): Uint8Array => new Uint8Array(size).fill(2)

function createRegion() {
  const pieces: Buffer[] = []
  const packer = createDataPacker(async (chunk) => void pieces.push(Buffer.from(chunk)))
  return { packer, bytes: () => Buffer.concat(pieces) }
}

test('packs frames back to back across cluster borders', async () => {
  const { packer, bytes } = createRegion()
  expect([40_000, 40_000, 100].map((size) => packer.add(frame(size)))).toEqual([0, 40_000, 80_000])
  expect(await packer.finish()).toBe(80_384)
  expect(bytes().length).toBe(80_384)
  expect(
    bytes()
      .subarray(80_100)
      .every((byte) => byte === 0),
  ).toBe(true)
})

test('fills the gap before plain clusters until a frame does not fit', async () => {
  const { packer, bytes } = createRegion()
  expect(packer.add(frame(1000))).toBe(0)
  expect(packer.add(plain)).toBe(clusterBytes)
  expect(packer.add(frame(60_000))).toBe(1000)
  expect(packer.add(frame(5000))).toBe(2 * clusterBytes)
  expect(packer.add(frame(100))).toBe(2 * clusterBytes + 5000)
  await packer.finish()
  expect(
    bytes()
      .subarray(61_000, clusterBytes)
      .every((byte) => byte === 0),
  ).toBe(true)
})

test('gives a gap up after 16 plain clusters', async () => {
  const { packer } = createRegion()
  packer.add(frame(1000))
  for (let count = 0; count < 16; count++) packer.add(plain)
  expect(packer.add(frame(10))).toBe(1000)
  packer.add(plain)
  expect(packer.add(frame(10))).toBe(18 * clusterBytes)
})

test('places clusters the same whenever it is flushed', async () => {
  const [often, once] = [createRegion(), createRegion()]
  for (let count = 0; count < 60; count++) {
    for (const { packer } of [often, once]) {
      if (count % 5 === 0) packer.add(frame(3000 + 900 * count))
      else packer.add(plain)
    }
    await often.packer.flush()
  }
  expect(await often.packer.finish()).toBe(await once.packer.finish())
  expect(often.bytes().equals(once.bytes())).toBe(true)
})
