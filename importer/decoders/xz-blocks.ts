import { crc32 } from 'node:zlib'
import { CodedError } from '../../core/errors.ts'
import type { Bytes } from '../../core/streams.ts'
import { boundaryEveryBytes, type Boundary, type OnBoundary, type XzPlace } from './boundary.ts'
import { createByteCursor, type ByteCursor } from './byte-cursor.ts'

const magic = Buffer.from('fd377a585a00', 'hex')
const headerBytes = 12
const footerBytes = 12
/** By the number of the check. */
const checkBytes = [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64] as const
const bothSizes = 0xc0
const mostIntegerBytes = 9

/** A boundary at a block. */
export type BlockBoundary = Boundary & { readonly xz: XzPlace }

/**
 * The same bytes; tells where blocks of the first stream begin, as long as their headers say sizes, as
 * those of `xz -T0` do. That those are right is for liblzma to prove. @see The .xz File Format
 */
export async function* withXzBlocks(
  body: Bytes,
  onBoundary: OnBoundary,
): AsyncGenerator<Uint8Array, void> {
  using cursor = createByteCursor(body)
  const header = await cursor.read(headerBytes)
  yield header
  if (header.length === headerBytes && header.subarray(0, magic.length).equals(magic)) {
    const xz = { check: (header[7] ?? 0) % 16, blocks: 0, unpacked: 0 }
    yield* passBlocks(cursor, { compressed: 0, decoded: 0, xz }, onBoundary)
  }
  yield* cursor.rest()
}

/**
 * What liblzma takes for a stream that begins with the block at `place`, where `body` begins: after a
 * header the blocks, and their index without those before. `onShorter` is told how many bytes fewer
 * it has than `body`, before what follows the stream. Throws COMPRESSION_INVALID where the index says
 * something else of the blocks before, or a block says no sizes.
 */
export async function* fromXzBlock(
  body: Bytes,
  place: BlockBoundary,
  onBoundary: OnBoundary,
  onShorter: (bytes: number) => void,
): AsyncGenerator<Uint8Array, void> {
  using cursor = createByteCursor(body)
  const flags = Buffer.from([0, place.xz.check])
  yield Buffer.concat([magic, flags, uint32(crc32(flags))])
  const hasIndex = yield* passBlocks(cursor, place, onBoundary)
  if (!hasIndex) {
    if (!(await cursor.peek())) return
    throw invalid('a block in the middle of it does not say its size')
  }
  const shorter = yield* passIndex(cursor, place)
  onShorter(shorter - headerBytes)
  yield* cursor.rest()
}

/** Up to the index: true; or up to a block that does not say its sizes, or the end. */
async function* passBlocks(
  cursor: ByteCursor,
  { compressed: start, decoded: before, xz }: BlockBoundary,
  onBoundary: OnBoundary,
): AsyncGenerator<Uint8Array, boolean> {
  let told = start
  const { check } = xz
  let { unpacked } = xz
  for (let { blocks } = xz; ; blocks++) {
    const [next] = (await cursor.peek()) ?? []
    if (next === undefined) return false
    if (next === 0) return true
    const compressed = start + cursor.position
    const header = await cursor.read((next + 1) * 4)
    const sizes = sizesIn(header)
    if (sizes && compressed - told >= boundaryEveryBytes) {
      told = compressed
      const decoded = before + unpacked - xz.unpacked
      onBoundary({ compressed, decoded, xz: { check, blocks, unpacked } })
    }
    yield header
    if (!sizes) return false
    let left = Math.ceil(sizes.packed / 4) * 4 + (checkBytes[check] ?? 0)
    while (left > 0) {
      const part = (await cursor.peek())?.subarray(0, left)
      if (!part) return false
      left -= part.length
      cursor.take(part.length)
      yield part
    }
    unpacked += sizes.unpacked
  }
}

function sizesIn(header: Buffer): { packed: number; unpacked: number } | undefined {
  if (((header[1] ?? 0) & bothSizes) !== bothSizes) return undefined
  const sizes: number[] = []
  let value = 0
  let digits = 0
  for (const byte of header.subarray(2, 2 + 2 * mostIntegerBytes)) {
    value += (byte % 128) * 128 ** digits++
    if (byte >= 128) continue
    sizes.push(value)
    value = 0
    digits = 0
  }
  const [packed, unpacked] = sizes
  if (packed === undefined || unpacked === undefined) return undefined
  return Number.isSafeInteger(packed) && Number.isSafeInteger(unpacked)
    ? { packed, unpacked }
    : undefined
}

/**
 * Index and footer without the blocks before `place`; answers by how many bytes they are shorter.
 * What liblzma can then no longer compare is compared here.
 */
async function* passIndex(
  cursor: ByteCursor,
  { xz }: BlockBoundary,
): AsyncGenerator<Uint8Array, number> {
  const start = cursor.position
  let sum = 0
  async function take(size: number): Promise<Buffer> {
    const bytes = await required(cursor, size)
    sum = crc32(bytes, sum)
    return bytes
  }
  async function takeInteger(): Promise<{ readonly value: number; readonly bytes: Buffer }> {
    const bytes: number[] = []
    let value = 0
    for (;;) {
      const [byte = 0] = await take(1)
      value += (byte % 128) * 128 ** bytes.length
      bytes.push(byte)
      if (byte < 128) return { value, bytes: Buffer.from(bytes) }
      if (bytes.length === mostIntegerBytes) throw invalid('its index is damaged')
    }
  }

  await take(1)
  const kept = (await takeInteger()).value - xz.blocks
  let unpacked = 0
  for (let index = 0; index < xz.blocks; index++) {
    await takeInteger()
    unpacked += (await takeInteger()).value
  }
  if (kept < 0 || unpacked !== xz.unpacked) throw invalid('its index names other blocks')

  const head = Buffer.from([0, ...integer(kept)])
  let size = head.length
  let check = crc32(head)
  yield head
  for (let index = 0; index < 2 * kept; index++) {
    const { bytes } = await takeInteger()
    size += bytes.length
    check = crc32(bytes, check)
    yield bytes
  }
  const padding = await take(-(cursor.position - start) & 3)
  const expected = sum
  const found = (await required(cursor, 4)).readUInt32LE()
  if (found !== expected || padding.some((byte) => byte !== 0)) {
    throw invalid('its index is damaged')
  }
  const zeros = Buffer.alloc(-size & 3)
  yield Buffer.concat([zeros, uint32(crc32(zeros, check))])
  size += zeros.length + 4

  const before = cursor.position - start
  const footer = await required(cursor, footerBytes)
  const isWhole = footer.readUInt32LE() === crc32(footer.subarray(4, 10))
  if (!isWhole || (footer.readUInt32LE(4) + 1) * 4 !== before) throw invalid('its end is damaged')
  footer.writeUInt32LE(size / 4 - 1, 4)
  footer.writeUInt32LE(crc32(footer.subarray(4, 10)))
  yield footer
  return before - size
}

function integer(value: number): number[] {
  const bytes: number[] = []
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128)
  return [...bytes, Math.floor(value / 128 ** bytes.length)]
}

async function required(cursor: ByteCursor, size: number): Promise<Buffer> {
  const bytes = await cursor.read(size)
  if (bytes.length === size) return bytes
  throw invalid('it ends too early; the file is truncated')
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

const invalid = (why: string): CodedError =>
  new CodedError('COMPRESSION_INVALID', `cannot decompress xz: ${why}`)
