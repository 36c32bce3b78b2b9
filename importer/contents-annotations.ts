import { z } from 'zod'
import type { DiskContents, Volume } from '../converter/contents/disk-contents.ts'

const names = {
  partitionTable: 'io.dvcr.disk.partition-table',
  firmware: 'io.dvcr.disk.firmware',
  volumes: 'io.dvcr.disk.volumes',
  osId: 'io.dvcr.os.id',
  osVersion: 'io.dvcr.os.version',
  osName: 'io.dvcr.os.name',
  cloudInit: 'io.dvcr.os.cloud-init',
} as const

const bytes = z.int().nonnegative()
const text = z.string().max(200)

const volumeSchema = z.object({
  partition: z.int().optional().describe('Number of the partition; absent: the whole disk.'),
  type: text.optional().describe('Of the partition: a name, a GUID, or the byte of an MBR.'),
  name: text.optional(),
  start: bytes,
  size: bytes,
  fileSystem: text.optional().describe('As blkid names it.'),
  label: text.optional(),
  uuid: text.optional(),
})

/** What is on a disk, as the API shows it. */
export const contentsRecordSchema = z.object({
  partitionTable: z.string().optional(),
  firmware: z.array(z.string()).optional().describe('What can start it: bios, uefi.'),
  volumes: z.array(volumeSchema).optional(),
  os: z
    .object({ id: z.string(), version: z.string().optional(), name: z.string().optional() })
    .optional(),
  cloudInit: z.boolean().optional(),
})
export type ContentsRecord = z.output<typeof contentsRecordSchema>

/** Annotations that say what is on a disk; nothing of what is not known. */
export function contentsAnnotations(contents: DiskContents): Record<string, string> {
  const { partitionTable, firmware, volumes, os, hasCloudInit } = contents
  const known = {
    [names.partitionTable]: partitionTable,
    [names.firmware]: firmware.length === 0 ? undefined : firmware.join(','),
    [names.volumes]: volumes.length === 0 ? undefined : JSON.stringify(volumes.map(volumeRecord)),
    [names.osId]: os?.id,
    [names.osVersion]: os?.version,
    [names.osName]: os?.name,
    [names.cloudInit]: hasCloudInit === undefined ? undefined : String(hasCloudInit),
  }
  const found = Object.entries(known).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, value] as const],
  )
  return Object.fromEntries(found)
}

function volumeRecord({ partition, start, size, fileSystem }: Volume) {
  const { number, ...kind } = partition ?? {}
  const { type, ...named } = fileSystem ?? {}
  return { partition: number, ...kind, start, size, fileSystem: type, ...named }
}

/** Anyone may push a manifest with any of these: what is not as we write it is left out. */
export function parseContents(notes: Readonly<Record<string, string>>): ContentsRecord | undefined {
  const id = notes[names.osId]
  const cloudInit = z.stringbool({ truthy: ['true'], falsy: ['false'] })
  const record = {
    partitionTable: notes[names.partitionTable],
    firmware: notes[names.firmware]?.split(',').slice(0, 8),
    volumes: parseVolumes(notes[names.volumes]),
    os:
      id === undefined
        ? undefined
        : { id, version: notes[names.osVersion], name: notes[names.osName] },
    cloudInit: cloudInit.safeParse(notes[names.cloudInit]).data,
  }
  const known = Object.entries(record).filter(([, value]) => value !== undefined)
  return known.length === 0 ? undefined : contentsRecordSchema.parse(Object.fromEntries(known))
}

function parseVolumes(json: string | undefined): ContentsRecord['volumes'] {
  try {
    return z
      .array(volumeSchema)
      .max(64)
      .parse(JSON.parse(json ?? ''))
  } catch {
    // Not as we write it.
    return undefined
  }
}
