import { randomBytes } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { digestOf, parseDigest } from '../core/digest.ts'
import { mediaTypes } from '../core/manifest.ts'
import type { Registry, Repository } from '../core/registry.ts'
import { blobContract, pushBlob } from './registry-blob-contract.ts'

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

    blobContract(() => registry)

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
        for (const repositoryName of sorted.toReversed()) {
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
