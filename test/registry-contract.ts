import { createHash, randomBytes } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { digestOf, parseDigest } from '../core/digest.ts'
import { mediaTypes } from '../core/manifest.ts'
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

async function pushBlob(
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

interface ImageOptions {
  readonly tag?: string
  readonly replace?: boolean
}

/** Puts an image manifest that differs by `note`, with its config. */
async function pushImage(
  repository: Repository,
  note: string,
  { tag, replace = true }: ImageOptions = {},
) {
  const config = Buffer.from('{}')
  const { digest, size } = await pushBlob(repository, config)
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaTypes.ociManifest,
      config: { mediaType: mediaTypes.ociConfig, digest, size },
      layers: [],
      annotations: { note },
    }),
  )
  const descriptor = await repository.manifests.put(
    { mediaType: mediaTypes.ociManifest, bytes },
    { tag, replace },
  )
  return { bytes, descriptor }
}

const bytesOf = async function* (...chunks: Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* chunks
}

/** Every `Registry` keeps these promises, whether it is a folder or another server over HTTP. */
export function registryContract(
  name: string,
  open: () => Promise<{ readonly registry: Registry } & AsyncDisposable>,
): void {
  describe(`${name} as a registry`, () => {
    let opened: Awaited<ReturnType<typeof open>>
    let registry: Registry
    let repository: Repository

    beforeEach(async () => {
      opened = await open()
      registry = opened.registry
      repository = registry.repository('team/disk')
    })
    afterEach(() => opened[Symbol.asyncDispose]())

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

    describe('manifests', () => {
      it('gives back the exact bytes by tag and by digest', async () => {
        const { bytes, descriptor } = await pushImage(repository, 'one', { tag: 'v1' })
        const expected = { ...descriptor, mediaType: mediaTypes.ociManifest, size: bytes.length }
        const byTag = await repository.manifests.get({ kind: 'tag', tag: 'v1' })
        const { digest } = descriptor
        const byDigest = await repository.manifests.get({ kind: 'digest', digest })
        for (const found of [byTag, byDigest]) {
          expect(found).toMatchObject(expected)
          expect(Buffer.from(found?.bytes ?? []).equals(bytes)).toBe(true)
        }
      })

      it('answers undefined for what it does not have', async () => {
        const digest = parseDigest(`sha256:${'0'.repeat(64)}`)
        expect(await repository.manifests.get({ kind: 'tag', tag: 'none' })).toBeUndefined()
        expect(await repository.manifests.get({ kind: 'digest', digest })).toBeUndefined()
      })

      it('moves a tag, keeping the manifest it pointed to', async () => {
        const first = await pushImage(repository, 'one', { tag: 'v1' })
        const second = await pushImage(repository, 'two', { tag: 'v1' })
        const { digest } = first.descriptor
        expect(await repository.manifests.get({ kind: 'tag', tag: 'v1' })).toMatchObject({
          digest: second.descriptor.digest,
        })
        expect(await repository.manifests.get({ kind: 'digest', digest })).toBeDefined()
      })

      it('refuses to move a tag where it may not be replaced', async () => {
        const first = await pushImage(repository, 'one', { tag: 'v1', replace: false })
        await pushImage(repository, 'one', { tag: 'v1', replace: false })
        await expect(
          pushImage(repository, 'two', { tag: 'v1', replace: false }),
        ).rejects.toMatchObject({ code: 'TAG_EXISTS' })
        expect(await repository.manifests.get({ kind: 'tag', tag: 'v1' })).toMatchObject({
          digest: first.descriptor.digest,
        })
      })

      it('refuses a manifest whose blobs are not there', async () => {
        const digest = digestOf(randomBytes(10))
        const bytes = Buffer.from(
          JSON.stringify({
            schemaVersion: 2,
            mediaType: mediaTypes.ociManifest,
            config: { mediaType: mediaTypes.ociConfig, digest, size: 10 },
            layers: [],
          }),
        )
        await expect(
          repository.manifests.put(
            { mediaType: mediaTypes.ociManifest, bytes },
            { tag: 'v1', replace: true },
          ),
        ).rejects.toMatchObject({ code: 'MANIFEST_BLOB_UNKNOWN' })
        expect(await repository.manifests.get({ kind: 'tag', tag: 'v1' })).toBeUndefined()
      })

      it('deletes a tag alone, and a manifest with all its tags', async () => {
        const { descriptor } = await pushImage(repository, 'one', { tag: 'v1' })
        await pushImage(repository, 'one', { tag: 'v2' })
        await pushImage(repository, 'two', { tag: 'v3' })
        const { digest } = descriptor
        expect(await repository.manifests.delete({ kind: 'tag', tag: 'v1' })).toBe(true)
        expect(await repository.manifests.delete({ kind: 'tag', tag: 'v1' })).toBe(false)
        expect(await repository.manifests.get({ kind: 'digest', digest })).toBeDefined()
        expect(await repository.manifests.delete({ kind: 'digest', digest })).toBe(true)
        expect(await repository.manifests.delete({ kind: 'digest', digest })).toBe(false)
        expect(await repository.listTags({})).toEqual(['v3'])
      })
    })

    describe('listings', () => {
      it('lists tags in byte order, in pages', async () => {
        for (const tag of ['b', 'B', '_x', 'a.1', 'a-1', '10', '9']) {
          await pushImage(repository, 'one', { tag })
        }
        const sorted = ['10', '9', 'B', '_x', 'a-1', 'a.1', 'b']
        expect(await repository.listTags({})).toEqual(sorted)
        expect(await repository.listTags({ limit: 3 })).toEqual(sorted.slice(0, 3))
        expect(await repository.listTags({ last: 'B', limit: 2 })).toEqual(['_x', 'a-1'])
        expect(await repository.listTags({ last: 'b' })).toEqual([])
        expect(await repository.listTags({ limit: 0 })).toEqual([])
      })

      it('refuses to list the tags of a repository that holds nothing', async () => {
        await expect(registry.repository('no/thing').listTags({})).rejects.toMatchObject({
          code: 'NAME_UNKNOWN',
        })
      })

      it('lists nested repositories in byte order, in pages', async () => {
        const sorted = ['a', 'a-b', 'a.b/c', 'a/b', 'a/b/c', 'a0', 'b']
        for (const repositoryName of [...sorted].reverse()) {
          await pushImage(registry.repository(repositoryName), 'one', { tag: 'v1' })
        }
        await pushBlob(registry.repository('only/blobs'), randomBytes(10))
        expect(await registry.listRepositories({})).toEqual(sorted)
        expect(await registry.listRepositories({ limit: 3 })).toEqual(sorted.slice(0, 3))
        expect(await registry.listRepositories({ last: 'a/b', limit: 2 })).toEqual(['a/b/c', 'a0'])
        expect(await registry.listRepositories({ last: 'b' })).toEqual([])
      })

      it('refuses a name that is not one', async () => {
        const use = async () => registry.repository('Upper').listTags({})
        await expect(use()).rejects.toMatchObject({ code: 'NAME_INVALID' })
      })
    })
  })
}
