import { createHash, randomBytes } from 'node:crypto'
import { open, readdir, readlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { execa } from 'execa'
import * as fc from 'fast-check'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { createTempFolder, type TempFolder } from '../test/fixtures/temp-folder.ts'
import { chunkBytes, createHashPool, type HashPool } from './hash-pool.ts'

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

/** The sha256 of every 4 MiB, the plain way. */
function chunkDigestsOf(bytes: Uint8Array): string {
  let all = ''
  for (let at = 0; at < bytes.length; at += chunkBytes)
    all += sha256(bytes.subarray(at, at + chunkBytes))
  return all
}

let pool: HashPool
let folder: TempFolder
beforeAll(() => {
  pool = createHashPool({ threads: 2 })
})
afterAll(() => pool[Symbol.asyncDispose]())
beforeEach(async () => {
  folder = await createTempFolder()
})
afterEach(() => folder[Symbol.asyncDispose]())

test('a stream is hashed by every algorithm, for any chunks', async () => {
  const chunks = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 30 })
  const algorithm = fc.constantFrom('md5', 'sha1', 'sha256', 'sha512')
  await fc.assert(
    fc.asyncProperty(chunks, algorithm, async (written, name) => {
      using hash = pool.hashStream({ algorithm: name })
      for (const chunk of written) await hash.write(chunk)
      const expected = createHash(name).update(Buffer.concat(written)).digest('hex')
      expect(await hash.finish()).toEqual({ hex: expected, chunkDigests: new Uint8Array() })
    }),
  )
})

test('a written chunk may be used again at once', async () => {
  const memories = [new ArrayBuffer(64 * 1024), new SharedArrayBuffer(64 * 1024)]
  for (const memory of memories) {
    const chunk = new Uint8Array(memory)
    const reference = createHash('sha256')
    using hash = pool.hashStream({})
    for (let turn = 0; turn < 100; turn++) {
      chunk.fill(turn)
      reference.update(chunk)
      await hash.write(chunk)
    }
    chunk.fill(0xff)
    expect((await hash.finish()).hex).toBe(reference.digest('hex'))
  }
})

test('chunk digests are those of every 4 MiB, wherever the writes fall', async () => {
  const sizes = [0, 1, chunkBytes - 1, chunkBytes, chunkBytes + 1, 2 * chunkBytes + 5]
  for (const size of sizes) {
    const bytes = randomBytes(size)
    using hash = pool.hashStream({ chunkDigests: true })
    for (let at = 0; at < size; at += 1_500_001)
      await hash.write(bytes.subarray(at, at + 1_500_001))
    const { hex, chunkDigests } = await hash.finish()
    expect(hex).toBe(sha256(bytes))
    expect(Buffer.from(chunkDigests).toString('hex')).toBe(chunkDigestsOf(bytes))
  }
})

test('a file is hashed while it grows', async () => {
  const path = join(folder.path, 'growing')
  const bytes = randomBytes(2 * chunkBytes + 12_345)
  const start = 777
  await using file = await open(path, 'w')
  await using hash = pool.followFile(path, { start, chunkDigests: true })
  let end = 0
  while (end < bytes.length) {
    const part = bytes.subarray(end, end + 1_111_111)
    await file.write(part)
    end += part.length
    hash.advance(end)
    // Never runs ahead of what it was told, never goes back.
    hash.advance(Math.floor(end / 2))
    await sleep(1)
  }
  // What is in the file but was not announced does not count.
  await file.write(randomBytes(5000))
  const { hex, chunkDigests } = await hash.finish(end)
  expect(hex).toBe(sha256(bytes.subarray(start)))
  expect(Buffer.from(chunkDigests).toString('hex')).toBe(chunkDigestsOf(bytes.subarray(start)))
})

test('what changes behind the announced end is not read early', async () => {
  const path = join(folder.path, 'late')
  await writeFile(path, Buffer.alloc(1000, 'a'))
  await using hash = pool.followFile(path, { start: 0 })
  hash.advance(500)
  await sleep(20)
  await using file = await open(path, 'r+')
  await file.write(Buffer.alloc(500, 'b'), 0, 500, 500)
  const expected = Buffer.concat([Buffer.alloc(500, 'a'), Buffer.alloc(500, 'b')])
  expect((await hash.finish(1000)).hex).toBe(sha256(expected))
})

test('many jobs at a time do not mix', async () => {
  const jobs = Array.from({ length: 40 }, async (_, job) => {
    const bytes = randomBytes(50_000 + job * 1000)
    if (job % 2 === 0) {
      using hash = pool.hashStream({ chunkDigests: job % 4 === 0 })
      for (let at = 0; at < bytes.length; at += 7001)
        await hash.write(bytes.subarray(at, at + 7001))
      return (await hash.finish()).hex === sha256(bytes)
    }
    const path = join(folder.path, String(job))
    await writeFile(path, bytes)
    await using hash = pool.followFile(path, { start: 0 })
    return (await hash.finish(bytes.length)).hex === sha256(bytes)
  })
  expect(await Promise.all(jobs)).not.toContain(false)
})

test('a file that is missing or too short is a failure of its own job only', async () => {
  const path = join(folder.path, 'short')
  await writeFile(path, 'abc')
  await using good = pool.followFile(path, { start: 0 })
  await using short = pool.followFile(path, { start: 0 })
  await using missing = pool.followFile(join(folder.path, 'none'), { start: 0 })
  short.advance(10)
  await sleep(20)
  await expect(missing.finish(1)).rejects.toThrow('ENOENT')
  await expect(short.finish(10)).rejects.toThrow('the file ends at 3, before 10')
  expect((await good.finish(3)).hex).toBe(sha256(Buffer.from('abc')))
})

test('a job that is given up ends with a failure and leaves the others alone', async () => {
  const given = pool.hashStream({})
  using kept = pool.hashStream({})
  await given.write(Buffer.from('abc'))
  await kept.write(Buffer.from('abc'))
  given[Symbol.dispose]()
  given[Symbol.dispose]()
  await expect(given.finish()).rejects.toThrow('given up')
  await expect(given.write(Buffer.from('d'))).rejects.toThrow('given up')
  expect((await kept.finish()).hex).toBe(sha256(Buffer.from('abc')))
})

test.each(['md5', 'sha1', 'sha256', 'sha512'] as const)(
  '%s goes on in another pool',
  async (algorithm) => {
    const bytes = randomBytes(3_000_000)
    using first = pool.hashStream({ algorithm })
    await first.write(bytes.subarray(0, 1_234_567))
    const from = await first.save()
    await first.write(bytes.subarray(0, 10))
    await using other = createHashPool({ threads: 1 })
    using second = other.hashStream({ algorithm, from })
    await second.write(bytes.subarray(1_234_567))
    expect((await second.finish()).hex).toBe(createHash(algorithm).update(bytes).digest('hex'))
    using wrong = other.hashStream({ algorithm, from: 'no state' })
    await expect(wrong.finish()).rejects.toThrow('cannot go on')
    expect(await wrong.save()).toBeUndefined()
  },
)

test('a file that is given up is closed, however much was to be hashed', async () => {
  const path = join(folder.path, 'given-up')
  await writeFile(path, Buffer.alloc(64 * 1024 * 1024))
  for (let i = 0; i < 20; i++) {
    const hash = pool.followFile(path, { start: 0 })
    hash.advance(64 * 1024 * 1024)
    await hash[Symbol.asyncDispose]()
    expect(await openFiles()).not.toContain(path)
  }
})

async function openFiles(): Promise<(string | undefined)[]> {
  const open = await readdir('/proc/self/fd')
  return Promise.all(open.map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => undefined)))
}

test('closing the pool ends what still runs', async () => {
  const own = createHashPool({ threads: 1 })
  const path = join(folder.path, 'file')
  await writeFile(path, 'abc')
  await using following = own.followFile(path, { start: 0 })
  using stream = own.hashStream({})
  await stream.write(Buffer.from('abc'))
  await own[Symbol.asyncDispose]()
  await expect(following.finish(3)).rejects.toThrow('hash thread ended')
  await expect(stream.finish()).rejects.toThrow('hash thread ended')
})

test('idle threads do not keep the process alive', async () => {
  const script = join(folder.path, 'idle.mjs')
  const text = `
    import { createHashPool } from ${JSON.stringify(new URL('hash-pool.ts', import.meta.url).href)}
    const pool = createHashPool({ threads: 2 })
    const [first, second] = [pool.hashStream({}), pool.hashStream({})]
    await first.write(new Uint8Array(10))
    await second.write(new Uint8Array(10))
    await first.finish()
    await second.finish()
    process.stdout.write('done')`
  await writeFile(script, text)
  const { stdout } = await execa(process.execPath, [script], { timeout: 20_000 })
  expect(stdout).toBe('done')
})
