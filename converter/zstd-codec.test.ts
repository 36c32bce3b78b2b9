import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { zstdDecompressSync } from 'node:zlib'
import { expect, test } from 'vitest'
import {
  createNativeCompressor,
  createZlibCompressor,
  createZstdCompressor,
  frameBound,
  type ZstdCompressor,
} from './zstd-codec.ts'

const cluster = 64 * 1024

function frame({ compress }: ZstdCompressor, source: Uint8Array): Buffer {
  const target = new Uint8Array(frameBound(source.length))
  return Buffer.from(target.subarray(0, compress(source, target)))
}

test.each([1, 3])('both engines give the same bytes at level %i', async (level) => {
  const program = await readFile(process.execPath)
  const engines = [createNativeCompressor(level), createZlibCompressor(level)]
  for (let at = 0; at < 400 * cluster; at += 4 * cluster) {
    const source = program.subarray(at, at + cluster)
    const [native, fallback] = engines.map((engine) => frame(engine, source))
    expect(native?.equals(fallback ?? Buffer.alloc(0))).toBe(true)
  }
  for (const source of [randomBytes(cluster), Buffer.alloc(cluster, 7), randomBytes(1)]) {
    const [native, fallback] = engines.map((engine) => frame(engine, source))
    expect(native).toEqual(fallback)
    expect(zstdDecompressSync(native ?? source)).toEqual(source)
  }
})

test('takes the native engine of the node that comes with the product', () => {
  expect(createZstdCompressor(1).engine).toBe('native')
})

test('compresses shared memory', () => {
  const shared = new Uint8Array(new SharedArrayBuffer(cluster)).fill(9)
  const compressor = createZstdCompressor(1)
  expect(zstdDecompressSync(frame(compressor, shared))).toEqual(Buffer.alloc(cluster, 9))
})
