import { afterEach, beforeEach, expect, test } from 'vitest'
import { digestOf, type Descriptor } from '../core/digest.ts'
import { mediaTypes } from '../core/manifest.ts'
import { parseImageReference } from '../core/reference.ts'
import { openTempStore, type TempStore } from '../test/fixtures/temp-store.ts'
import { createImages, type Images } from './images.ts'

const { signal } = new AbortController()
let store: TempStore
let images: Images
beforeEach(async () => {
  store = await openTempStore()
  images = createImages(store.registry)
})
afterEach(() => store[Symbol.asyncDispose]())

/** Pushes an image as any client may. */
async function push(
  image: string,
  annotations: object,
  layers: object[] = [],
): Promise<Descriptor> {
  const { name, reference } = parseImageReference(image)
  const repository = store.registry.repository(name)
  const config = Buffer.from('{}')
  const blob = await repository.blobs.create({ signal })
  await blob.write(config)
  await blob.finish()
  await blob.commit()
  const { ociManifest: mediaType, ociConfig } = mediaTypes
  const descriptor = { mediaType: ociConfig, digest: digestOf(config), size: config.length }
  const manifest = { schemaVersion: 2, mediaType, config: descriptor, layers, annotations }
  const bytes = Buffer.from(JSON.stringify(manifest))
  const tag = reference.kind === 'tag' ? reference.tag : undefined
  return repository.manifests.put({ mediaType, bytes }, { tag, replace: true })
}

const found = async (name?: string): Promise<string[]> =>
  (await images.list({ name })).map((image) => `${image.name}:${image.tag}`)

test('every tag is an image, by name and tag in byte order', async () => {
  for (const image of ['b:2', 'a/b:1', 'b:10', 'a:1']) await push(image, { image })
  expect(await found()).toEqual(['a:1', 'a/b:1', 'b:10', 'b:2'])
  expect(await found('b')).toEqual(['b:10', 'b:2'])
  expect(await found('none')).toEqual([])
  await expect(found('None')).rejects.toMatchObject({ code: 'NAME_INVALID' })
})

test('an image shows what its import wrote into it', async () => {
  const annotations = {
    'io.dvcr.source': 'http://example.org/a',
    'io.dvcr.source.format': 'raw',
    'io.dvcr.disk.format': 'qcow2',
    'io.dvcr.disk.virtual-size': '1024',
    'io.dvcr.disk.file-size': '512',
    'io.dvcr.content-digest': 'sha256:1',
  }
  const { digest } = await push('debian:12', annotations)
  expect(await images.get(parseImageReference('debian:12'))).toEqual({
    name: 'debian',
    tag: '12',
    digest,
    mediaType: mediaTypes.ociManifest,
    storedSize: 0,
    format: 'raw',
    storedFormat: 'qcow2',
    virtualSize: 1024,
    fileSize: 512,
    contentDigest: 'sha256:1',
    source: 'http://example.org/a',
    annotations,
  })
  const byDigest = await images.get(parseImageReference(`debian@${digest}`))
  expect(byDigest).not.toHaveProperty('tag')
})

test('an image of another maker that says any size hides nothing', async () => {
  const sizes = ['', 'much', '-1', '1.5', '1e400', '0x10', '9'.repeat(30)]
  for (const [at, size] of sizes.entries()) {
    const annotations = { 'io.dvcr.disk.virtual-size': size, 'io.dvcr.disk.file-size': size }
    await push(`a:${at}`, annotations)
  }
  const listed = await images.list({})
  expect(listed.map(({ virtualSize }) => virtualSize)).toEqual(sizes.map(() => undefined))
})

test('repositories that are not to be shown are not looked into', async () => {
  for (const image of ['a:1', 'b:1']) await push(image, {})
  const looked: string[] = []
  const { registry } = store
  const watched = {
    ...registry,
    repository(name: string) {
      looked.push(name)
      return registry.repository(name)
    },
  }
  const listed = await createImages(watched).list({ isShown: (name) => name === 'b' })
  expect(listed.map(({ name }) => name)).toEqual(['b'])
  expect(looked).toEqual(['b'])
})

test('layers that are not here and of any size hide nothing', async () => {
  const mediaType = 'application/vnd.oci.image.layer.nondistributable.v1.tar'
  const layer = { mediaType, digest: `sha256:${'1'.repeat(64)}`, size: Number.MAX_SAFE_INTEGER }
  await push('b:1', {}, [layer, layer])
  expect(await found()).toEqual(['b:1'])
})

test('an index is an image without a disk', async () => {
  const { digest, size } = await push('a:1', {})
  const manifests = [{ mediaType: mediaTypes.ociManifest, digest, size }]
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests }))
  await store.registry
    .repository('a')
    .manifests.put({ mediaType: mediaTypes.ociIndex, bytes }, { tag: 'all', replace: false })
  expect(await images.get(parseImageReference('a:all'))).toMatchObject({ storedSize: 0 })
  expect(await found()).toEqual(['a:1', 'a:all'])
})

test('what is not there is unknown', async () => {
  await push('a:1', {})
  const missing = { code: 'IMAGE_UNKNOWN' }
  for (const text of ['a:2', 'b:1', `a@sha256:${'0'.repeat(64)}`]) {
    const image = parseImageReference(text)
    await expect(images.get(image)).rejects.toMatchObject(missing)
    await expect(images.delete(image)).rejects.toMatchObject(missing)
    await expect(images.tag(image, 'x', { replace: true })).rejects.toMatchObject(missing)
  }
})

test('a tag is deleted alone, an image by digest with all its tags', async () => {
  const { digest } = await push('a:1', {})
  await push('a:2', {})
  await push('a:3', { other: 'x' })
  await images.delete(parseImageReference('a:1'))
  expect(await found()).toEqual(['a:2', 'a:3'])
  await images.delete(parseImageReference(`a@${digest}`))
  expect(await found()).toEqual(['a:3'])
})

test('an image gets one more tag, and another one its tag only where that is wanted', async () => {
  const first = await push('a:1', {})
  const second = await push('a:2', { other: 'x' })
  const tag = (image: string, name: string, replace: boolean) =>
    images.tag(parseImageReference(image), name, { replace })
  expect(await tag('a:1', 'latest', false)).toMatchObject({ tag: 'latest', digest: first.digest })
  expect(await tag('a:1', 'latest', false)).toMatchObject({ digest: first.digest })
  await expect(tag('a:2', 'latest', false)).rejects.toMatchObject({ code: 'TAG_EXISTS' })
  expect(await tag('a:2', 'latest', true)).toMatchObject({ digest: second.digest })
  await expect(tag('a:1', '.bad', true)).rejects.toMatchObject({ code: 'TAG_INVALID' })
  expect(await found()).toEqual(['a:1', 'a:2', 'a:latest'])
})
