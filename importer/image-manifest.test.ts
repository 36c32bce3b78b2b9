import { expect, test } from 'vitest'
import { digestOf, parseDigest } from '../core/digest.ts'
import { mediaTypes, parseManifest } from '../core/manifest.ts'
import { imageObjects, type ImageFacts } from './image-manifest.ts'

const facts: ImageFacts = {
  sourceLabel: 'http://example.org/debian.raw.gz',
  validator: undefined,
  sourceSize: 1000,
  sourceFormat: 'raw',
  storedFormat: 'qcow2',
  virtualSize: 10_240,
  diskSize: 10_001,
  fileSize: 5000,
  layer: {
    digest: parseDigest(`sha256:${'1'.repeat(64)}`),
    size: 4 * 1024 * 1024 + 1,
    scratchBytes: 77,
    chunkDigests: Uint8Array.from({ length: 64 }, (_, at) => at),
  },
  contentDigest: parseDigest(`sha256:${'2'.repeat(64)}`),
  encoder: '1',
  warning: undefined,
  checksums: { md5: undefined, sha256: 'ab' },
  architecture: undefined,
  contents: {
    partitionTable: undefined,
    volumes: [],
    firmware: [],
    architecture: undefined,
    os: undefined,
    hasCloudInit: undefined,
  },
}

const json = (bytes: Uint8Array): unknown => JSON.parse(Buffer.from(bytes).toString())

test('the manifest digest is what it was with the first release', () => {
  expect(digestOf(imageObjects(facts).manifest)).toBe(
    'sha256:e59b2343b9403cf32f11e1dd6a30311433238554f658aff191a7b7f45397c1e2',
  )
})

test('the manifest is a valid one and tells everything about the disk', () => {
  const { manifest, config } = imageObjects(facts)
  expect(parseManifest(mediaTypes.ociManifest, manifest)).toEqual({
    schemaVersion: 2,
    mediaType: mediaTypes.ociManifest,
    config: { mediaType: mediaTypes.ociConfig, digest: digestOf(config), size: config.length },
    layers: [
      {
        mediaType: mediaTypes.ociLayer,
        digest: facts.layer.digest,
        size: facts.layer.size,
        annotations: { 'org.opencontainers.image.title': 'disk.tar' },
      },
    ],
    annotations: {
      'io.dvcr.source': 'http://example.org/debian.raw.gz',
      'io.dvcr.source.format': 'raw',
      'io.dvcr.source.size': '1000',
      'io.dvcr.source.sha256': 'ab',
      'io.dvcr.disk.format': 'qcow2',
      'io.dvcr.disk.virtual-size': '10240',
      'io.dvcr.disk.exact-size': '10001',
      'io.dvcr.disk.file-size': '5000',
      'io.dvcr.disk.file-offset': '4096',
      'io.dvcr.chunks': digestOf(imageObjects(facts).chunks),
      'io.dvcr.content-digest': facts.contentDigest,
      'io.dvcr.encoder': '1',
    },
  })
})

test('the config names the layer and the blob of chunk digests', () => {
  const { config, chunks } = imageObjects(facts)
  expect(json(config)).toEqual({
    architecture: 'amd64',
    os: 'linux',
    config: {
      Labels: {
        'erofs-compatible-layers': 'true',
        'source-image-format': 'raw',
        'source-image-size': '1000',
        'source-image-virtual-size': '10240',
        'io.dvcr.chunks': digestOf(chunks),
      },
    },
    rootfs: { type: 'layers', diff_ids: [facts.layer.digest] },
  })
})

test('the list of chunk digests has a magic, the chunk and the layer size, then the digests', () => {
  const chunks = Buffer.from(imageObjects(facts).chunks)
  expect(chunks.subarray(0, 8).toString('latin1')).toBe('DVCRCHK1')
  expect(chunks.readBigUInt64BE(8)).toBe(4n * 1024n * 1024n)
  expect(chunks.readBigUInt64BE(16)).toBe(BigInt(facts.layer.size))
  expect(chunks.subarray(24).equals(facts.layer.chunkDigests)).toBe(true)
})

test('nothing but the facts of the image goes into it', () => {
  const other = { ...facts, layer: { ...facts.layer, scratchBytes: 0 } }
  expect(imageObjects(other)).toEqual(imageObjects(facts))
  const copy = { ...facts, contentDigest: undefined, encoder: undefined, checksums: {} }
  const { annotations } = parseManifest(mediaTypes.ociManifest, imageObjects(copy).manifest)
  expect(Object.keys(annotations ?? {})).not.toContain('io.dvcr.encoder')
  expect(Object.keys(annotations ?? {})).not.toContain('io.dvcr.content-digest')
})
