import type { FileTree } from './file-tree.ts'
import { attempt } from './disk-bytes.ts'

/** As the OCI and Go name machines. */
interface Machine {
  readonly architecture: string
  /** Of the file in `\EFI\BOOT` that firmware starts. @see UEFI 2.10 §3.5.1.1 */
  readonly efiFile?: string
  readonly peMachine?: number
  /** Of an ELF header: the machine, its width in bits, and whether numbers are little-endian. */
  readonly elf: readonly [machine: number, bits: 32 | 64, order: 'little' | 'big']
  /** Names that distributions give it. */
  readonly names: readonly string[]
}

/** A machine of 64 bits stands before the one of 32 that it also runs. */
const machines: readonly Machine[] = [
  {
    architecture: 'amd64',
    efiFile: 'bootx64.efi',
    peMachine: 0x8664,
    elf: [62, 64, 'little'],
    names: ['amd64', 'x86_64'],
  },
  {
    architecture: 'arm64',
    efiFile: 'bootaa64.efi',
    peMachine: 0xaa64,
    elf: [183, 64, 'little'],
    names: ['arm64', 'aarch64'],
  },
  {
    architecture: 'riscv64',
    efiFile: 'bootriscv64.efi',
    peMachine: 0x5064,
    elf: [243, 64, 'little'],
    names: ['riscv64'],
  },
  {
    architecture: 'loong64',
    efiFile: 'bootloongarch64.efi',
    peMachine: 0x6264,
    elf: [258, 64, 'little'],
    names: ['loong64', 'loongarch64'],
  },
  { architecture: 'ppc64le', elf: [21, 64, 'little'], names: ['ppc64el', 'ppc64le'] },
  { architecture: 'ppc64', elf: [21, 64, 'big'], names: ['ppc64'] },
  { architecture: 's390x', elf: [22, 64, 'big'], names: ['s390x'] },
  {
    architecture: '386',
    efiFile: 'bootia32.efi',
    peMachine: 0x14c,
    elf: [3, 32, 'little'],
    names: ['i386', 'i686'],
  },
  {
    architecture: 'arm',
    efiFile: 'bootarm.efi',
    peMachine: 0x1c2,
    elf: [40, 32, 'little'],
    names: ['armhf', 'armel'],
  },
]

const efiFolder = '/EFI/BOOT'

/** The machines that `\EFI\BOOT` has a program for: by the program, where that cannot be read by its name. */
export async function efiArchitectures(tree: FileTree): Promise<string[]> {
  const found: string[] = []
  for (const { efiFile, architecture } of machines) {
    if (efiFile === undefined) continue
    const file = await tree.find(`${efiFolder}/${efiFile}`)
    if (file?.kind !== 'file') continue
    const head = await attempt(() => file.contents(4096))
    found.push((head && peArchitecture(head)) ?? architecture)
  }
  return found
}

/** @see Microsoft PE format */
function peArchitecture(head: Buffer): string | undefined {
  if (head.length < 64 || head.toString('latin1', 0, 2) !== 'MZ') return undefined
  const at = head.readUInt32LE(60)
  if (at + 6 > head.length || head.toString('latin1', at, at + 4) !== 'PE\0\0') return undefined
  const machine = head.readUInt16LE(at + 4)
  return machines.find(({ peMachine }) => peMachine === machine)?.architecture
}

/** @see System V ABI, ELF header */
export function elfArchitecture(head: Buffer): string | undefined {
  if (head.length < 20 || head.toString('latin1', 0, 4) !== '\x7fELF') return undefined
  const bits = head.readUInt8(4) === 2 ? 64 : 32
  const order = head.readUInt8(5) === 2 ? 'big' : 'little'
  const machine = order === 'big' ? head.readUInt16BE(18) : head.readUInt16LE(18)
  const isIt = ({ elf }: Machine) => elf[0] === machine && elf[1] === bits && elf[2] === order
  return machines.find(isIt)?.architecture
}

/** The first word of `text` that names a machine. */
export function namedArchitecture(text: string): string | undefined {
  for (const word of text.toLowerCase().split(/[^a-z0-9_]+/)) {
    const found = machines.find(({ names }) => names.includes(word))
    if (found) return found.architecture
  }
  return undefined
}

/** The one that `found` means: of 64 bits where it is for 32 too, none where it is for several. */
export function onlyArchitecture(found: readonly string[]): string | undefined {
  const runs: Readonly<Record<string, string>> = { '386': 'amd64', arm: 'arm64' }
  const unique = [...new Set(found)]
  const largest = unique.filter((one) => !unique.includes(runs[one] ?? ''))
  return largest.length === 1 ? largest[0] : undefined
}
