import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import type { DiskContents } from '../converter/contents/disk-contents.ts'
import { contentsAnnotations, contentsRecordSchema, parseContents } from './contents-annotations.ts'

const nothing: DiskContents = {
  partitionTable: undefined,
  volumes: [],
  firmware: [],
  architecture: undefined,
  os: undefined,
  hasCloudInit: undefined,
}

test('nothing is said of what is not known', () => {
  expect(contentsAnnotations(nothing)).toEqual({})
  expect(parseContents({})).toBeUndefined()
})

test('what is said is read again', () => {
  const fileSystem = { type: 'ext4', label: 'root', uuid: undefined }
  const annotations = contentsAnnotations({
    partitionTable: 'gpt',
    firmware: ['bios', 'uefi'],
    volumes: [
      {
        partition: { number: 1, type: 'linux', name: undefined },
        start: 512,
        size: 1024,
        fileSystem,
      },
    ],
    architecture: 'amd64',
    os: { id: 'debian', version: undefined, name: 'Debian' },
    hasCloudInit: false,
  })
  expect(annotations).toEqual({
    'io.dvcr.disk.partition-table': 'gpt',
    'io.dvcr.disk.firmware': 'bios,uefi',
    'io.dvcr.disk.volumes':
      '[{"partition":1,"type":"linux","start":512,"size":1024,"fileSystem":"ext4","label":"root"}]',
    'io.dvcr.os.id': 'debian',
    'io.dvcr.os.name': 'Debian',
    'io.dvcr.os.cloud-init': 'false',
  })
  expect(parseContents(annotations)).toEqual({
    partitionTable: 'gpt',
    firmware: ['bios', 'uefi'],
    volumes: [
      { partition: 1, type: 'linux', start: 512, size: 1024, fileSystem: 'ext4', label: 'root' },
    ],
    os: { id: 'debian', version: undefined, name: 'Debian' },
    cloudInit: false,
  })
})

test('anything may stand in a manifest: what is not as we write it is left out', () => {
  const names = Object.keys(
    contentsAnnotations({
      ...nothing,
      partitionTable: 'gpt',
      hasCloudInit: true,
      firmware: ['bios'],
    }),
  ).concat('io.dvcr.disk.volumes', 'io.dvcr.os.id', 'io.dvcr.os.version', 'io.dvcr.os.name')
  const value = fc.oneof(fc.string(), fc.json(), fc.constantFrom('[{"start":-1,"size":1}]', '[]'))
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...names), value), (notes) => {
      const parsed = parseContents(notes)
      expect(contentsRecordSchema.optional().safeParse(parsed).success).toBe(true)
    }),
  )
})
