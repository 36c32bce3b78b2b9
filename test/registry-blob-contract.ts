import { createHash, randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { beforeEach, describe, expect, it } from 'vitest'
import { digestOf } from '../core/digest.ts'
import type { CreateBlobOptions, Registry, Repository, WrittenBlob } from '../core/registry.ts'

const chunkBytes = 4 * 1024 * 1024
const { signal } = new AbortController()

/** The blob's bytes in one piece. */
async function readAll(
  repository: Repository,
  digest: WrittenBlob['digest'],
  range?: { start: number; end: number },
): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of repository.blobs.read(digest, { range, signal })) {
    chunks.push(Buffer.from(chunk))
  }
  return Buffer.concat(chunks)
}

/** Writes a blob in pieces and commits it. */
export async function pushBlob(
  repository: Repository,
  bytes: Uint8Array,
  options: Partial<CreateBlobOptions> = {},
): Promise<WrittenBlob> {
  const writer = await repository.blobs.create({ signal, ...options })
  // An odd size, so that pieces never fall on the borders of anything.
  const piece = 300_001
  for (let at = 0; at < bytes.length; at += piece) {
    await writer.write(bytes.subarray(at, at + piece))
  }
  const written = await writer.finish()
  await writer.commit()
  return written
}

const bytesOf = async function* (...chunks: Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* chunks
}

/** What every registry promises of blobs; `open` answers the one of the running test. */
export function blobContract(open: () => Registry): void {
  let registry: Registry
  let repository: Repository

  beforeEach(() => {
    registry = open()
    repository = registry.repository('team/disk')
  })

  describe('blobs', () => {
    it('gives back the bytes that were written, by their digest', async () => {
      const bytes = randomBytes(3_000_000)
      const written = await pushBlob(repository, bytes)
      expect(written).toMatchObject({ digest: digestOf(bytes), size: bytes.length })
      expect(await repository.blobs.stat(written.digest)).toEqual({ size: bytes.length })
      expect((await readAll(repository, written.digest)).equals(bytes)).toBe(true)
    })

    it('keeps an empty blob', async () => {
      const { digest, size } = await pushBlob(repository, new Uint8Array())
      expect(size).toBe(0)
      expect(await repository.blobs.stat(digest)).toEqual({ size: 0 })
      expect(await readAll(repository, digest)).toHaveLength(0)
    })

    it('takes the same blob again', async () => {
      const bytes = randomBytes(1000)
      const first = await pushBlob(repository, bytes)
      expect((await pushBlob(repository, bytes)).digest).toBe(first.digest)
      expect((await readAll(repository, first.digest)).equals(bytes)).toBe(true)
    })

    it('reads half-open ranges across its own buffers', async () => {
      const bytes = randomBytes(2_500_000)
      const { digest } = await pushBlob(repository, bytes)
      const all = { start: 0, end: bytes.length }
      const inner = { start: 1_048_575, end: 2_097_154 }
      const last = { start: bytes.length - 1, end: bytes.length }
      expect((await readAll(repository, digest, all)).equals(bytes)).toBe(true)
      expect(
        (await readAll(repository, digest, inner)).equals(bytes.subarray(1_048_575, 2_097_154)),
      ).toBe(true)
      expect((await readAll(repository, digest, last)).equals(bytes.subarray(-1))).toBe(true)
    })

    it('lets a reader stop early', async () => {
      const { digest } = await pushBlob(repository, randomBytes(5_000_000))
      for await (const chunk of repository.blobs.read(digest, { signal })) {
        expect(chunk.length).toBeGreaterThan(0)
        break
      }
      expect(await readAll(repository, digest)).toHaveLength(5_000_000)
    })

    it('hashes every 4 MiB where asked to', async () => {
      const bytes = randomBytes(chunkBytes + 17)
      const { chunkDigests } = await pushBlob(repository, bytes, { chunkDigests: true })
      const sha256 = (part: Uint8Array) => createHash('sha256').update(part).digest()
      const expected = [bytes.subarray(0, chunkBytes), bytes.subarray(chunkBytes)].map(sha256)
      expect(Buffer.from(chunkDigests).equals(Buffer.concat(expected))).toBe(true)
    })

    it('puts a head of unknown size before what is written already', async () => {
      const head = randomBytes(5000)
      const body = randomBytes(chunkBytes)
      const writer = await repository.blobs.create({
        signal,
        reserveBytes: 100_000,
        chunkDigests: true,
      })
      await writer.write(body.subarray(0, 1234))
      await writer.write(body.subarray(1234))
      await writer.prepend(head.length, bytesOf(head.subarray(0, 7), head.subarray(7)))
      const whole = Buffer.concat([head, body])
      const { digest, size, chunkDigests } = await writer.finish()
      const got = await writer.readAt(-head.length, whole.length + 1)
      expect(Buffer.from(got).equals(whole)).toBe(true)
      await writer.commit()
      expect({ digest, size }).toEqual({ digest: digestOf(whole), size: whole.length })
      expect(chunkDigests).toHaveLength(64)
      expect((await readAll(repository, digest)).equals(whole)).toBe(true)
    })

    it('finishes without a head where room for one was kept', async () => {
      const bytes = randomBytes(70_000)
      const { digest } = await pushBlob(repository, bytes, { reserveBytes: 1_000_000 })
      expect(digest).toBe(digestOf(bytes))
      expect((await readAll(repository, digest)).equals(bytes)).toBe(true)
    })

    it('reads back what was written before it is finished', async () => {
      const bytes = randomBytes(200_000)
      const writer = await repository.blobs.create({ signal, reserveBytes: 4096 })
      await writer.write(bytes)
      const got = await writer.readAt(100_000, 5000)
      await writer.abort()
      expect(Buffer.from(got).equals(bytes.subarray(100_000, 105_000))).toBe(true)
    })

    it('has a finished blob in a file of this machine, or says that it has not', async () => {
      const bytes = randomBytes(50_000)
      const writer = await repository.blobs.create({ signal, readBack: true })
      await writer.write(bytes)
      await writer.finish()
      const file = writer.file()
      const found = file ? (await readFile(file.path)).subarray(file.start) : bytes
      expect(found.equals(bytes)).toBe(true)
      await writer.abort()
    })

    it('does not show a blob before its commit, nor after an abort', async () => {
      const bytes = randomBytes(1000)
      const writer = await repository.blobs.create({ signal })
      await writer.write(bytes)
      const { digest } = await writer.finish()
      expect(await repository.blobs.stat(digest)).toBeUndefined()
      await writer.abort()
      await writer.abort()
      expect(await repository.blobs.stat(digest)).toBeUndefined()
    })

    it('ignores an abort after the commit', async () => {
      const bytes = randomBytes(1000)
      const writer = await repository.blobs.create({ signal })
      await writer.write(bytes)
      const { digest } = await writer.finish()
      await writer.commit()
      await writer.abort()
      expect((await readAll(repository, digest)).equals(bytes)).toBe(true)
    })

    it('shows a blob only in the repository it was written to', async () => {
      const { digest } = await pushBlob(repository, randomBytes(1000))
      const other = registry.repository('other/disk')
      expect(await other.blobs.stat(digest)).toBeUndefined()
      await expect(readAll(other, digest)).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' })
    })

    it('deletes a blob from one repository', async () => {
      const bytes = randomBytes(1000)
      const other = registry.repository('other/disk')
      const { digest } = await pushBlob(repository, bytes)
      await pushBlob(other, bytes)
      expect(await repository.blobs.delete(digest)).toBe(true)
      expect(await repository.blobs.delete(digest)).toBe(false)
      expect(await repository.blobs.stat(digest)).toBeUndefined()
      expect((await readAll(other, digest)).equals(bytes)).toBe(true)
    })
  })
}
