import { availableParallelism } from 'node:os'
import type { Compression } from '../../core/disk-format.ts'
import { CodedError } from '../../core/errors.ts'
import { peek, type Bytes } from '../../core/streams.ts'
import type { Boundary, OnBoundary } from './boundary.ts'
import { budgetFor, withinBudget } from './decode-budget.ts'
import { decodeGzipMembers } from './gzip-members.ts'
import { decodeNatively } from './native-stage.ts'
import { decodeGzip } from './zlib-stage.ts'
import { fromXzBlock, withXzBlocks } from './xz-blocks.ts'
import { decodeZstd } from './zstd-stage.ts'

const deepest = 2
const magicBytes = 10
/** What xz may use: enough for `xz -9` on one core and `xz -6` on two; bombs with larger dictionaries are refused. */
const xz = {
  kind: 'xz',
  threads: availableParallelism(),
  memoryLimit: 256 * 1024 * 1024,
  threadedMemoryLimit: 160 * 1024 * 1024,
} as const

/** By magic, never by name. Undefined: not wrapped. */
export function detectCompression(head: Uint8Array): Compression | undefined {
  const magic = Buffer.from(head.subarray(0, magicBytes)).toString('hex')
  if (magic.startsWith('1f8b08')) return 'gzip'
  if (magic.startsWith('fd377a585a00')) return 'xz'
  // A frame, or a skippable frame before it. @see RFC 8878 §3.1
  if (magic.startsWith('28b52ffd') || /^5[0-9a-f]2a4d18/.test(magic)) return 'zstd'
  // The size of its blocks, then the first one or the end: digits of pi, or of its square root.
  if (/^425a683[1-9](?:314159265359|177245385090)/.test(magic)) return 'bzip2'
  // A frame, or one of the legacy format that `lz4 -l` and kernels have.
  if (magic.startsWith('04224d18') || magic.startsWith('02214c18')) return 'lz4'
  return undefined
}

export interface DecompressOptions {
  readonly maxVirtualSize: number
  readonly onBoundary?: OnBoundary | undefined
}

/** Where decoding goes on. */
export interface DecodingPlace extends Boundary {
  readonly compression: Compression
}

/**
 * Unwraps `body`, at most two layers deep; `wrappings` from the outside in. Multi-member gzip,
 * multi-stream xz and bzip2, and multi-frame zstd and lz4 are one stream; zeros may follow the end. Throws COMPRESSION_INVALID for damaged,
 * truncated or other trailing bytes, FORMAT_UNSUPPORTED for a third layer, and what `withinBudget` throws for a disk
 * of at most `maxVirtualSize` bytes. `onBoundary` is told those of the outermost layer.
 */
export async function decompress(
  body: Bytes,
  { maxVirtualSize, onBoundary }: DecompressOptions,
): Promise<{
  readonly body: AsyncGenerator<Uint8Array, void>
  readonly wrappings: readonly Compression[]
}> {
  const budget = budgetFor(maxVirtualSize)
  const wrappings: Compression[] = []
  let current = body
  for (;;) {
    const { head, rest } = await peek(current, magicBytes)
    const compression = detectCompression(head)
    if (!compression) return { body: rest, wrappings }
    if (wrappings.length === deepest) {
      await rest.return()
      throw new CodedError(
        'FORMAT_UNSUPPORTED',
        `compressed more than ${deepest} times (${[...wrappings, compression].join(', ')}); unpack it first`,
      )
    }
    const decode = decoderOf(compression, wrappings.length === 0 ? onBoundary : undefined)
    wrappings.push(compression)
    current = withinBudget(rest, compression, decode, budget)
  }
}

/** What `decompress` gives behind a boundary it told; `body` begins there. Throws what it throws. */
export function decompressFrom(
  body: Bytes,
  place: DecodingPlace,
  { maxVirtualSize, onBoundary }: DecompressOptions,
): AsyncGenerator<Uint8Array, void> {
  const { compression, compressed, decoded, xz: block } = place
  let shorter = 0
  const tell: OnBoundary = (later) =>
    onBoundary?.({
      ...later,
      compressed: compressed + shorter + later.compressed,
      decoded: decoded + later.decoded,
    })
  const decodeBlocks = (bytes: Bytes): Bytes => {
    const start = { compressed, decoded, xz: block ?? { check: 0, blocks: 0, unpacked: 0 } }
    const told = onBoundary ?? (() => {})
    const stream = fromXzBlock(bytes, start, told, (difference) => (shorter = difference))
    return decodeNatively(stream, xz, tell)
  }
  const decode = block ? decodeBlocks : decoderOf(compression, tell)
  return withinBudget(body, compression, decode, budgetFor(maxVirtualSize), place)
}

function decoderOf(
  compression: Compression,
  onBoundary: OnBoundary | undefined,
): (body: Bytes) => Bytes {
  switch (compression) {
    case 'gzip':
      return onBoundary ? (body) => decodeGzipMembers(body, onBoundary) : decodeGzip
    case 'zstd':
      return (body) => decodeZstd(body, onBoundary)
    case 'xz':
      return (body) =>
        decodeNatively(onBoundary ? withXzBlocks(body, onBoundary) : body, xz, onBoundary)
    case 'bzip2':
    case 'lz4':
      return (body) => decodeNatively(body, { kind: compression }, onBoundary)
  }
}
