/** `length` bytes at `offset`; zeros where nothing was ever written. Rejects where they cannot be read. */
export type ReadAt = (offset: number, length: number) => Promise<Uint8Array>

/** A part of a disk. Whatever it says of itself, reading it ends: see `createDiskBytes`. */
export interface DiskBytes {
  readonly size: number
  /** Exactly `length` bytes; rejects where they are not all within `size` or too much was read. */
  read(offset: number, length: number): Promise<Buffer>
  /** The same bytes counted from `start`; what lies past the end of this part is cut off. */
  part(start: number, size: number): DiskBytes
}

export interface DiskBytesLimits {
  /** Calls of `readAt`. */
  readonly mostReads: number
  /** Bytes given out, those that were read before included; every call counts as a sector at least. */
  readonly mostBytes: number
}

const pieceBytes = 64 * 1024
const mostKept = 64
const sectorBytes = 512

/** Far more than any disk of ours took, little for a disk that wants to be read for ever. */
const usualLimits: DiskBytesLimits = { mostReads: 256, mostBytes: 16 * 1024 * 1024 }

/**
 * A disk to look around in: it is read in pieces of 64 KiB, the last ones are kept (4 MiB), and
 * after `limits` every read rejects, so that no structure on the disk decides how long that takes.
 */
export function createDiskBytes(
  readAt: ReadAt,
  size: number,
  limits: DiskBytesLimits = usualLimits,
): DiskBytes {
  /** The longest unused first. */
  const kept = new Map<number, Buffer>()
  let reads = 0
  let givenBytes = 0

  async function piece(index: number): Promise<Buffer> {
    const start = index * pieceBytes
    const found = kept.get(index)
    if (!found && ++reads > limits.mostReads) throw new Error('too many reads')
    const bytes = found ?? Buffer.from(await readAt(start, Math.min(pieceBytes, size - start)))
    kept.delete(index)
    kept.set(index, bytes)
    if (kept.size > mostKept) kept.delete(kept.keys().next().value ?? 0)
    return bytes
  }

  async function read(offset: number, length: number): Promise<Buffer> {
    givenBytes += Math.max(length, sectorBytes)
    if (givenBytes > limits.mostBytes) throw new Error('too many bytes')
    const into = Buffer.alloc(length)
    for (let done = 0; done < length;) {
      const at = offset + done
      const bytes = await piece(Math.floor(at / pieceBytes))
      const copied = bytes.copy(into, done, at % pieceBytes)
      if (copied === 0) throw new Error(`no byte ${at}`)
      done += copied
    }
    return into
  }

  function part(start: number, partSize: number): DiskBytes {
    return {
      size: partSize,
      async read(offset, length) {
        const isWithin = offset >= 0 && length >= 0 && offset + length <= partSize
        if (!isWithin || !Number.isSafeInteger(offset)) {
          throw new Error(`bytes ${offset} to ${offset + length} of ${partSize}`)
        }
        return read(start + offset, length)
      },
      part(inner, innerSize) {
        const from = Math.min(Math.max(0, inner), partSize)
        return part(start + from, Math.max(0, Math.min(innerSize, partSize - from)))
      },
    }
  }
  return part(0, size)
}

/** What `look` finds; `undefined` where the bytes cannot be understood or read. */
export async function attempt<Found>(look: () => Promise<Found>): Promise<Found | undefined> {
  try {
    return await look()
  } catch {
    // Anything may be on a disk: what is not understood is not told.
    return undefined
  }
}

/** Text of a disk as it may be shown and kept: one line, no control characters, not endless. */
export function plainText(bytes: Uint8Array): string | undefined {
  const [text = ''] = Buffer.from(bytes).toString('utf8').split('\0', 1)
  const plain = text
    // Marks of direction too: a name must not rewrite the line that it stands in.
    .replaceAll(/[\s\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}\uFFFD]+/gu, ' ')
    .trim()
    .slice(0, 128)
    .trim()
  return plain === '' ? undefined : plain
}

/** Sixteen bytes as a UUID is written. */
export function uuidText(bytes: Uint8Array): string | undefined {
  const hex = Buffer.from(bytes).toString('hex')
  if (/^0*$/.test(hex)) return undefined
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}
