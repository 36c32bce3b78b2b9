import { efiArchitectures, onlyArchitecture } from './architecture.ts'
import { attempt, type DiskBytes } from './disk-bytes.ts'
import { findFileSystem } from './file-systems.ts'
import type { FileSystem, FileTree } from './file-tree.ts'
import { bootImagesOf, openIso } from './iso9660.ts'
import {
  readIsoSystem,
  readSystem,
  type OperatingSystem,
  type SystemFacts,
} from './operating-system.ts'
import { readPartitionTable, type Partition, type PartitionTable } from './partition-table.ts'
import { architectureOfType } from './partition-types.ts'

/** What is in a partition, or on a disk that has none; sizes in bytes. */
export interface Volume {
  /** `undefined`: the whole disk. */
  readonly partition: Pick<Partition, 'number' | 'type' | 'name'> | undefined
  readonly start: number
  readonly size: number
  readonly fileSystem: Pick<FileSystem, 'type' | 'label' | 'uuid'> | undefined
}

export type Firmware = 'bios' | 'uefi'

/** What could be told of a disk by looking at a little of it; what could not is `undefined`. */
export interface DiskContents {
  readonly partitionTable: PartitionTable['kind']
  readonly volumes: readonly Volume[]
  /** What can start it. */
  readonly firmware: readonly Firmware[]
  /** The machine that it is for, as the OCI names it. */
  readonly architecture: string | undefined
  readonly os: OperatingSystem | undefined
  readonly hasCloudInit: boolean | undefined
}

/** A volume with what is read of it. */
interface OpenVolume extends Volume {
  readonly tree: FileTree | undefined
}

const mostVolumes = 32

/** Never rejects: what is damaged, unknown or too much is left out. */
export async function findContents(disk: DiskBytes): Promise<DiskContents> {
  const table = await readPartitionTable(disk)
  const volumes = await openVolumes(disk, table)
  const trees = volumes
    .filter(({ fileSystem }) => fileSystem?.type === 'vfat' || fileSystem?.type === 'iso9660')
    .map(({ tree }) => tree)
    .filter((tree) => tree !== undefined)
  const cds = (await attempt(() => bootImagesOf(disk))) ?? []
  for (const { firmware, bytes } of cds) {
    // Its firmware starts the file system in there.
    const inner = firmware === 'uefi' ? await findFileSystem(bytes) : undefined
    const tree = inner?.openTree && (await attempt(inner.openTree))
    if (tree) trees.push(tree)
  }
  const efi: string[] = []
  for (const tree of trees) efi.push(...((await attempt(() => efiArchitectures(tree))) ?? []))
  const system = await findSystem(volumes)
  const types = table.partitions.flatMap(({ type }) => architectureOfType(type) ?? [])
  const startsByBios =
    cds.some(({ firmware }) => firmware === 'bios') || (await hasBootCode(disk, table))
  return {
    partitionTable: table.kind,
    volumes: volumes.map(({ tree: _tree, ...volume }) => volume),
    firmware: [
      ...(startsByBios ? (['bios'] as const) : []),
      ...(efi.length > 0 ? (['uefi'] as const) : []),
    ],
    architecture: system?.architecture ?? onlyArchitecture(types) ?? onlyArchitecture(efi),
    os: system?.os,
    hasCloudInit: system?.hasCloudInit,
  }
}

async function openVolumes(disk: DiskBytes, table: PartitionTable): Promise<OpenVolume[]> {
  const whole = { partition: undefined, start: 0, size: disk.size }
  const parts = table.partitions.slice(0, mostVolumes).map(({ start, size, ...partition }) => {
    const { number, type, name } = partition
    return { partition: { number, type, name }, start, size }
  })
  const found: OpenVolume[] = []
  // A CD that also starts from a USB stick has both; else what starts a disk with partitions can
  // look like a file system.
  const onWholeDisk = await attempt(() =>
    table.kind === 'none' ? findFileSystem(disk) : openIso(disk),
  )
  if (onWholeDisk) found.push(await openVolume(whole, onWholeDisk))
  for (const volume of parts) {
    // A program for the BIOS and nothing else.
    const isProgram = volume.partition.type === 'bios-boot'
    const bytes = disk.part(volume.start, volume.size)
    const fileSystem = isProgram ? undefined : await findFileSystem(bytes)
    found.push(await openVolume(volume, fileSystem))
  }
  return found
}

async function openVolume(
  volume: Omit<Volume, 'fileSystem'>,
  found: FileSystem | undefined,
): Promise<OpenVolume> {
  const open = found?.openTree
  const tree = open && (await attempt(open))
  return { ...volume, fileSystem: found && namesOf(found), tree }
}

function namesOf({ type, label, uuid }: FileSystem): Volume['fileSystem'] {
  return { type, label, uuid }
}

async function findSystem(volumes: readonly OpenVolume[]): Promise<SystemFacts | undefined> {
  for (const { tree, fileSystem } of volumes) {
    if (!tree) continue
    const found = await (fileSystem?.type === 'iso9660' ? readIsoSystem(tree) : readSystem(tree))
    if (found) return found
  }
  return undefined
}

/** Code in the first sector alone says little: tools leave some on every disk. */
async function hasBootCode(
  disk: DiskBytes,
  { kind, partitions }: PartitionTable,
): Promise<boolean> {
  if (kind === 'none' || kind === undefined) return false
  const sector = await attempt(() => disk.read(0, 512))
  if (!sector || sector.readUInt16LE(510) !== 0xaa55) return false
  const code = sector.subarray(0, 440)
  if (code.every((byte) => byte === 0)) return false
  const isMeant = partitions.some(({ type, isActive }) => isActive || type === 'bios-boot')
  return isMeant || code.includes('GRUB')
}
