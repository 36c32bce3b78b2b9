import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { refusalOf } from '../test/fixtures/refusal.ts'
import { isManifestIndex, isNonDistributable, mediaTypes, parseManifest } from './manifest.ts'

const digest = `sha256:${'a'.repeat(64)}`
const descriptor = { mediaType: 'a/b', digest, size: 3 }
const image = { schemaVersion: 2, config: descriptor, layers: [descriptor] }
const index = { schemaVersion: 2, manifests: [descriptor] }
const bytesOf = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))

test.each([
  [mediaTypes.ociManifest, image],
  [mediaTypes.ociManifest, { ...image, mediaType: mediaTypes.ociManifest, layers: [] }],
  [mediaTypes.dockerManifest, { ...image, mediaType: mediaTypes.dockerManifest }],
  [mediaTypes.ociIndex, index],
  [mediaTypes.dockerList, { ...index, manifests: [] }],
  [mediaTypes.ociManifest, { ...image, artifactType: 'x/y', subject: descriptor, other: [1] }],
  [mediaTypes.ociManifest, { ...image, annotations: { a: 'b' } }],
])('takes a manifest of type %s', (mediaType, value) => {
  expect(parseManifest(mediaType, bytesOf(value))).toEqual(value)
})

test.each([
  ['a type of no manifest', 'application/json', image, 'the type must be one of'],
  ['an empty type', '', image, 'the type must be one of'],
  [
    'another type inside',
    mediaTypes.ociManifest,
    { ...image, mediaType: 'x/y' },
    'it says it is x/y',
  ],
  [
    'more annotations than readers could take',
    mediaTypes.ociManifest,
    {
      ...image,
      annotations: Object.fromEntries(Array.from({ length: 10_001 }, (_, n) => [n, ''])),
    },
    'annotations has 10001 entries',
  ],
  ['no config', mediaTypes.ociManifest, { ...image, config: undefined }, 'needs "config"'],
  ['no layers', mediaTypes.dockerManifest, { ...image, layers: undefined }, 'needs "config"'],
  ['an index without manifests', mediaTypes.ociIndex, image, 'needs "manifests"'],
  ['an image without an image', mediaTypes.ociManifest, index, 'needs "config"'],
  ['schema version 1', mediaTypes.dockerManifest, { ...image, schemaVersion: 1 }, 'schemaVersion'],
  ['no object', mediaTypes.ociManifest, 3, 'object'],
  ['null', mediaTypes.ociManifest, null, 'object'],
  ['a list', mediaTypes.ociManifest, [image], 'object'],
])('refuses %s', (_what, mediaType, value, why) => {
  const parse = (): unknown => parseManifest(mediaType, bytesOf(value))
  expect(parse).toThrow(expect.objectContaining({ code: 'MANIFEST_INVALID' }))
  expect(parse).toThrow(why)
})

test.each([
  [{ digest: 'sha256:zz' }],
  [{ digest: undefined }],
  [{ size: -1 }],
  [{ size: 1.5 }],
  [{ size: 2 ** 53 }],
  [{ size: '3' }],
  [{ mediaType: '' }],
  [{ annotations: { a: 1 } }],
  [{ urls: 'http://a' }],
])('refuses a descriptor with %j', (change) => {
  const value = { ...image, layers: [{ ...descriptor, ...change }] }
  expect(() => parseManifest(mediaTypes.ociManifest, bytesOf(value))).toThrow(
    expect.objectContaining({ code: 'MANIFEST_INVALID' }),
  )
})

test('refuses what is not UTF-8 or not JSON', () => {
  const notJson = [
    Buffer.alloc(0),
    Buffer.from('{'),
    Buffer.from([0x22, 0xff, 0x22]),
    Buffer.from('x'),
  ]
  for (const bytes of notJson) {
    expect(() => parseManifest(mediaTypes.ociManifest, bytes)).toThrow('not JSON')
  }
})

test('any bytes are a manifest or MANIFEST_INVALID, changed or cut ones too', () => {
  const good = bytesOf(image)
  const damaged = fc
    .tuple(fc.nat(good.length - 1), fc.nat(255), fc.nat(good.length))
    .map(([at, value, end]) => {
      const bytes = Buffer.from(good)
      bytes[at] = value
      return bytes.subarray(0, end)
    })
  const json = fc.json().map((text) => Buffer.from(text))
  fc.assert(
    fc.property(fc.oneof(damaged, json, fc.uint8Array()), (bytes) => {
      const refusal = refusalOf(() => parseManifest(mediaTypes.ociManifest, bytes))
      expect([undefined, 'MANIFEST_INVALID']).toContain(refusal)
    }),
  )
})

test('tells indexes and layers that are never pushed', () => {
  expect(Object.values(mediaTypes).filter(isManifestIndex)).toEqual([
    mediaTypes.ociIndex,
    mediaTypes.dockerList,
  ])
  const foreign = 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip'
  const kept = 'application/vnd.oci.image.layer.nondistributable.v1.tar'
  expect([foreign, kept].map((mediaType) => isNonDistributable({ mediaType }))).toEqual([
    true,
    true,
  ])
  expect(isNonDistributable({ mediaType: mediaTypes.ociLayer })).toBe(false)
})
