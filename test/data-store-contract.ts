import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { beforeEach, describe, expect, it } from 'vitest'
import { digestOf } from '../core/digest.ts'
import type { ByteRange } from '../core/registry.ts'
import type { DataStore, DataWriter, StoredData, WriteOptions } from '../registry/data-store.ts'
import { checkpointRecord, type Checkpoint } from '../registry/records.ts'
import { noise } from './fixtures/chunks.ts'

const mebibyte = 1024 * 1024
const { signal } = new AbortController()
const sha256: Pick<WriteOptions, 'algorithm' | 'record'> = {
  algorithm: 'sha256',
  record: async () => {},
}

/** As another process finds it: through JSON and the schema of its record. */
const recorded = (checkpoint: Checkpoint): Checkpoint =>
  checkpointRecord.parse(JSON.parse(JSON.stringify(checkpoint)))

async function writeAll(writer: DataWriter, bytes: Uint8Array, size = 65_536): Promise<void> {
  for (let at = 0; at < bytes.length; at += size) await writer.write(bytes.subarray(at, at + size))
}

async function readAll(data: DataStore, where: StoredData, range: ByteRange): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of data.read(where, range, signal)) chunks.push(Buffer.from(chunk))
  return Buffer.concat(chunks)
}

/** What every `DataStore` promises. `open` gives an empty one, or one that others use too. */
export function dataStoreContract(
  name: string,
  open: () => Promise<{ readonly data: DataStore } & AsyncDisposable>,
): void {
  describe(`${name} as a data store`, () => {
    let data: DataStore
    beforeEach(async () => {
      const opened = await open()
      data = opened.data
      return () => opened[Symbol.asyncDispose]()
    })

    async function store(bytes: Uint8Array): Promise<StoredData> {
      const uuid = randomUUID()
      await using writer = await data.write(uuid, { ...sha256, expectedBytes: bytes.length })
      await writeAll(writer, bytes)
      const stored = await data.complete(uuid, await writer.finish(digestOf(bytes)))
      expect(stored?.data).toBe(uuid)
      return stored ?? { data: uuid }
    }

    it('gives back what was written, any range of it', async () => {
      for (const size of [0, 1, 5000, 3 * mebibyte + 17, 21 * mebibyte]) {
        const bytes = noise(size)
        const where = await store(bytes)
        const ranges = [
          { start: 0, end: size },
          { start: size, end: size },
          { start: Math.floor(size / 3), end: Math.ceil(size / 2) },
          { start: Math.max(0, size - 5), end: size },
        ]
        for (const range of ranges) {
          const read = await readAll(data, where, range)
          expect(read.equals(bytes.subarray(range.start, range.end))).toBe(true)
        }
      }
    })

    it('goes on at a checkpoint in another writer, which the first one does not disturb', async () => {
      const bytes = noise(14 * mebibyte)
      for (const at of [0, 1, 70_000, 5 * mebibyte, 6 * mebibyte + 3, 14 * mebibyte]) {
        const uuid = randomUUID()
        const first = await data.write(uuid, sha256)
        await writeAll(first, bytes.subarray(0, at))
        const checkpoint = recorded(await first.checkpoint())
        expect(checkpoint.offset).toBe(at)
        // What comes after it belongs to nobody.
        await writeAll(first, randomBytes(100_000))
        await first[Symbol.asyncDispose]()
        await using second = await data.write(uuid, { ...sha256, from: checkpoint })
        expect(second.end).toBe(at)
        await writeAll(second, bytes.subarray(at))
        const finished = recorded(await second.finish(digestOf(bytes)))
        const where = await data.complete(uuid, finished)
        const read = await readAll(data, where ?? { data: '' }, { start: 0, end: bytes.length })
        expect(read.equals(bytes)).toBe(true)
      }
    })

    it('is asked for a checkpoint where it records one by itself', async () => {
      const bytes = noise(4 * mebibyte)
      const record = async (): Promise<void> => {}
      const uuid = randomUUID()
      await using writer = await data.write(uuid, { algorithm: 'sha256', record })
      const offsets: number[] = []
      for (let round = 1; round <= 24; round++) {
        await writeAll(writer, bytes)
        if (round % 2 === 0) offsets.push((await writer.checkpoint()).offset)
      }
      expect(offsets).toEqual(offsets.map((_, index) => (index + 1) * 2 * bytes.length))
    })

    it('goes on many times, in pieces of any size', async () => {
      const bytes = noise(7 * mebibyte)
      const uuid = randomUUID()
      let from: Checkpoint | undefined
      for (const end of [1, 2, 100, 300_000, 300_001, 6 * mebibyte, 7 * mebibyte]) {
        await using writer = await data.write(uuid, { ...sha256, from })
        await writeAll(writer, bytes.subarray(writer.end, end), 99_999)
        from = recorded(await writer.checkpoint())
      }
      await using last = await data.write(uuid, { ...sha256, from })
      const where = await data.complete(uuid, await last.finish(digestOf(bytes)))
      const read = await readAll(data, where ?? { data: '' }, { start: 0, end: bytes.length })
      expect(read.equals(bytes)).toBe(true)
    })

    it('refuses bytes of another digest, and goes on from the checkpoint before them', async () => {
      const bytes = noise(9 * mebibyte)
      const uuid = randomUUID()
      await using writer = await data.write(uuid, sha256)
      await writeAll(writer, bytes.subarray(0, 3 * mebibyte))
      const before = recorded(await writer.checkpoint())
      for (const algorithm of ['sha256', 'sha512'] as const) {
        await writeAll(writer, randomBytes(6 * mebibyte))
        await expect(writer.finish(digestOf(bytes, algorithm))).rejects.toMatchObject({
          code: 'DIGEST_INVALID',
        })
        await writer.rollback(before)
        expect(writer.end).toBe(3 * mebibyte)
      }
      await writeAll(writer, bytes.subarray(3 * mebibyte))
      const where = await data.complete(uuid, await writer.finish(digestOf(bytes)))
      const read = await readAll(data, where ?? { data: '' }, { start: 0, end: bytes.length })
      expect(read.equals(bytes)).toBe(true)
    })

    it('takes a digest of the algorithm that it did not follow', async () => {
      const bytes = noise(6 * mebibyte)
      for (const [followed, asked] of [
        ['sha256', 'sha512'],
        ['sha512', 'sha256'],
        ['sha512', 'sha512'],
      ] as const) {
        const uuid = randomUUID()
        await using writer = await data.write(uuid, { ...sha256, algorithm: followed })
        await writeAll(writer, bytes)
        const where = await data.complete(uuid, await writer.finish(digestOf(bytes, asked)))
        const read = await readAll(data, where ?? { data: '' }, { start: 0, end: bytes.length })
        expect(read.equals(bytes)).toBe(true)
      }
    })

    it('records checkpoints on the way, never more than 64 MiB behind, and any of them will do', async () => {
      const bytes = noise(150 * mebibyte)
      const uuid = randomUUID()
      const checkpoints: Checkpoint[] = []
      let furthest = 0
      const record = async (checkpoint: Checkpoint): Promise<void> => {
        checkpoints.push(recorded(checkpoint))
      }
      {
        await using writer = await data.write(uuid, { algorithm: 'sha256', record })
        for (let at = 0; at < bytes.length; at += 300_000) {
          await writer.write(bytes.subarray(at, at + 300_000))
          furthest = Math.max(furthest, writer.end - (checkpoints.at(-1)?.offset ?? 0))
        }
      }
      expect(furthest).toBeLessThanOrEqual(64 * mebibyte)
      const offsets = checkpoints.map(({ offset }) => offset)
      expect(offsets).toEqual([...offsets].sort((a, b) => a - b))
      expect(offsets.length).toBeGreaterThan(1)
      const from = checkpoints.at(-1)
      await using writer = await data.write(uuid, { ...sha256, from })
      await writeAll(writer, bytes.subarray(writer.end), mebibyte)
      const where = await data.complete(uuid, await writer.finish(digestOf(bytes)))
      expect(where?.data).toBe(uuid)
    })

    it('takes nothing more once recording has failed', async () => {
      const record = (): Promise<void> => Promise.reject(new Error('overtaken'))
      await using writer = await data.write(randomUUID(), { algorithm: 'sha256', record })
      const piece = noise(mebibyte)
      const flood = async (): Promise<void> => {
        for (let count = 0; count < 200; count++) await writer.write(piece)
      }
      await expect(flood()).rejects.toThrow('overtaken')
      await expect(writer.write(piece)).rejects.toThrow('overtaken')
      expect(writer.end).toBeLessThanOrEqual(64 * mebibyte)
    })

    it('says the digest, and that of every 4 MiB where it was asked for', async () => {
      const bytes = noise(9 * mebibyte + 5)
      const uuid = randomUUID()
      await using writer = await data.write(uuid, { ...sha256, chunkDigests: true })
      await writeAll(writer, bytes, 1_000_001)
      const { hex, chunkDigests } = await writer.digest()
      expect(`sha256:${hex}`).toBe(digestOf(bytes))
      const hash = (at: number): Buffer =>
        createHash('sha256')
          .update(bytes.subarray(at, at + 4 * mebibyte))
          .digest()
      const expected = Buffer.concat([hash(0), hash(4 * mebibyte), hash(8 * mebibyte)])
      expect(Buffer.from(chunkDigests).equals(expected)).toBe(true)
      const finished = await writer.finish(digestOf(bytes))
      expect(await data.complete(uuid, finished)).toBeDefined()
    })

    it('completes as often as it is asked to, until it is deleted', async () => {
      const bytes = noise(6 * mebibyte)
      const uuid = randomUUID()
      await using writer = await data.write(uuid, sha256)
      await writeAll(writer, bytes)
      const finished = recorded(await writer.finish(digestOf(bytes)))
      const all = await Promise.all([1, 2, 3].map(() => data.complete(uuid, finished)))
      const [where] = [...all, await data.complete(uuid, finished)]
      expect(where?.data).toBe(uuid)
      const read = await readAll(data, where ?? { data: '' }, { start: 0, end: bytes.length })
      expect(read.equals(bytes)).toBe(true)
      expect(await data.delete({ data: uuid, ...where })).toBe(true)
      expect(await data.delete({ data: uuid, ...where })).toBe(false)
      expect(await data.complete(uuid, finished)).toBeUndefined()
      await expect(
        readAll(data, { data: uuid }, { start: 0, end: bytes.length }),
      ).rejects.toMatchObject({ code: 'UNKNOWN' })
    })

    it('deletes what an unfinished writer left', async () => {
      const uuid = randomUUID()
      await using writer = await data.write(uuid, sha256)
      await writeAll(writer, noise(7 * mebibyte))
      const checkpoint = recorded(await writer.checkpoint())
      await writer[Symbol.asyncDispose]()
      await data.delete({ data: uuid, checkpoint })
      await expect(readAll(data, { data: uuid }, { start: 0, end: 10 })).rejects.toMatchObject({
        code: 'UNKNOWN',
      })
      // Nothing was ever written to this one.
      expect(await data.delete({ data: randomUUID(), checkpoint: { offset: 0 } })).toBe(false)
    })

    it('stops reading for a reader that leaves', async () => {
      const bytes = noise(8 * mebibyte)
      const where = await store(bytes)
      for await (const chunk of data.read(where, { start: 0, end: bytes.length }, signal)) {
        expect(chunk.length).toBeGreaterThan(0)
        break
      }
      const stop = new AbortController()
      const reading = async (): Promise<void> => {
        const range = { start: 0, end: bytes.length }
        for await (const _ of data.read(where, range, stop.signal)) stop.abort(new Error('left'))
      }
      await expect(reading()).rejects.toThrow('left')
    })
  })
}
