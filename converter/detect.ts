import type { DiskFormat } from '../core/disk-format.ts'
import { CodedError } from '../core/errors.ts'
import { gptDoubt } from './gpt.ts'
import type { ImageEnds } from './image-ends.ts'
import { isIso, isoDoubt } from './iso.ts'
import { parseQcow2Header } from './formats/qcow2-header.ts'
import { hasMagic, refuseKnownUnsupported } from './signatures.ts'
import { refuseText } from './text-head.ts'
import { parseVdiHeader } from './formats/vdi-map.ts'
import { parseVhdHeader } from './formats/vhd-map.ts'
import { checkVmdkDescriptor, parseVmdkHeader, type VmdkHeader } from './formats/vmdk-header.ts'

/** First bytes that `detect` needs; fewer only where the image is shorter. */
export const headBytes = 64 * 1024
/** Last bytes that `checkEnd` needs; fewer only where the image is shorter. */
export const tailBytes = 64 * 1024

const sectorBytes = 512

export interface Detected {
  readonly format: DiskFormat
  /**
   * Bytes of the disk as a machine sees it. Undefined: not known from the head (raw and ISO of
   * unknown length, VHDX, whose size is stored behind the head).
   */
  readonly virtualSize: number | undefined
  /** Why nodes should not be given the file as it is; `undefined` where they may. */
  readonly unclean?: string
}

interface FormatRule {
  readonly format: DiskFormat
  claims(head: Buffer): boolean
  virtualSize(head: Buffer): bigint | undefined
}

const rules: readonly FormatRule[] = [
  {
    format: 'qcow2',
    claims: (head) => hasMagic(head, 0, 'QFI\xfb'),
    virtualSize: (head) => BigInt(parseQcow2Header(head).virtualSize),
  },
  {
    format: 'vmdk',
    claims: (head) => hasMagic(head, 0, 'KDMV'),
    virtualSize: (head) => BigInt(vmdkVerdict(head).virtualSize),
  },
  {
    format: 'vdi',
    claims: (head) => hasMagic(head, 0x40, '\x7f\x10\xda\xbe'),
    virtualSize: (head) => BigInt(parseVdiHeader(head).virtualSize),
  },
  {
    format: 'vhd',
    claims: (head) => hasMagic(head, 0, 'conectix'),
    virtualSize: (head) => BigInt(parseVhdHeader(head).virtualSize),
  },
  {
    format: 'vhdx',
    claims: (head) => hasMagic(head, 0, 'vhdxfile'),
    virtualSize: () => undefined,
  },
  { format: 'iso', claims: isIso, virtualSize: () => undefined },
]

/**
 * What the image with these first bytes (`headBytes` of them) is. `length`: its decoded length in
 * bytes where known. Partition tables and file systems are contents, so what no format claims is
 * raw. Throws FORMAT_UNKNOWN for what is no disk image (empty, too short, a web page, text),
 * FORMAT_UNSUPPORTED for known things that cannot be imported, IMAGE_UNSAFE where two formats
 * claim the bytes, and what the parsers of headers throw. Whether vmdk, vdi, vhd and vhdx are imported is the caller's decision.
 */
export function detect(
  head: Uint8Array,
  options: { readonly length: number | undefined },
): Detected {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.length)
  if (bytes.length === 0) throw new CodedError('FORMAT_UNKNOWN', 'the source is empty')
  refuseKnownUnsupported(bytes)
  refuseText(bytes)
  const claimed = rules.filter((rule) => rule.claims(bytes))
  const [rule, other] = claimed
  if (rule && other) throw ambiguous(claimed.map(({ format }) => format))
  if (bytes.length < sectorBytes) {
    throw new CodedError(
      'FORMAT_UNKNOWN',
      `the source has ${bytes.length} bytes: too short for a disk image, which has at least ${sectorBytes}`,
    )
  }
  const format = rule?.format ?? 'raw'
  const { length } = options
  if (format === 'raw' || format === 'iso') {
    const virtualSize = length === undefined ? undefined : roundUpToSector(length)
    return { format, virtualSize }
  }
  const virtualSize = checkedSize(format, rule?.virtualSize(bytes))
  const unclean = format === 'qcow2' ? parseQcow2Header(bytes).unclean : undefined
  return { format, virtualSize, ...(unclean === undefined ? {} : { unclean }) }
}

/**
 * After the last byte of an image: throws where only its end tells that it cannot be stored as
 * `detected`. FORMAT_UNSUPPORTED: a fixed VHD or a dmg, known by their footers; IMAGE_UNSAFE: an ISO
 * with another format's footer; IMAGE_INCOMPLETE: an ISO shorter than its volume, a raw disk shorter
 * than its GPT, unless it `isProven` that all came that there was. Then it was made so, which is
 * answered as a warning. The end of the other formats is the business of their readers.
 */
export function checkEnd(
  { format }: Detected,
  ends: ImageEnds,
  { isProven }: { readonly isProven: boolean },
): string | undefined {
  if (format !== 'raw' && format !== 'iso') return undefined
  const what = format === 'iso' ? 'ISO' : 'raw disk'
  const doubt = format === 'iso' ? isoDoubt(ends) : gptDoubt(ends)
  if (doubt !== undefined && !isProven) {
    throw new CodedError(
      'IMAGE_INCOMPLETE',
      `the ${what} is cut off: ${doubt}; neither a length nor a checksum says that this is all of it: check the source, or give its checksum`,
      { detail: { length: ends.length } },
    )
  }
  const footer = footerFormat(ends.tail)
  if (footer !== undefined && format === 'iso') throw ambiguous(['iso', footer])
  if (footer !== undefined) {
    throw new CodedError(
      'FORMAT_UNSUPPORTED',
      footer === 'dmg'
        ? 'the source is an Apple disk image (dmg), which cannot be imported: convert it first: qemu-img convert -f dmg -O qcow2'
        : 'the source is a VHD of fixed size, which no node boots from: leave --store as-is out to have it rewritten',
    )
  }
  return doubt === undefined ? undefined : `the ${what} is not whole where it came from: ${doubt}`
}

/** With the descriptor's, where the head has all of it. */
function vmdkVerdict(head: Buffer): VmdkHeader {
  const header = parseVmdkHeader(head)
  const { offset, size } = header.descriptor
  if (offset + size <= head.length) checkVmdkDescriptor(head.subarray(offset, offset + size))
  return header
}

function footerFormat(tail: Uint8Array): 'vhd' | 'dmg' | undefined {
  // Old Virtual PC writes a footer of 511 bytes.
  const isVhd = [512, 511].some((size) => hasMagic(tail, tail.length - size, 'conectix'))
  if (isVhd) return 'vhd'
  return hasMagic(tail, tail.length - sectorBytes, 'koly') ? 'dmg' : undefined
}

function ambiguous(formats: readonly string[]): CodedError {
  return new CodedError(
    'IMAGE_UNSAFE',
    `the source claims to be ${formats.join(' and ')} at once: one image hidden in another is refused`,
    { detail: { formats } },
  )
}

function checkedSize(format: DiskFormat, size: bigint | undefined): number | undefined {
  if (size === undefined) return undefined
  if (size === 0n || size > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new CodedError(
      'IMAGE_UNSAFE',
      `the ${format} header gives a virtual size of ${size} bytes, which no disk has`,
    )
  }
  return Number(size)
}

function roundUpToSector(size: number): number {
  return Math.ceil(size / sectorBytes) * sectorBytes
}
