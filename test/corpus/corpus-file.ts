import type { ErrorCode } from '../../core/error-codes.ts'
import type { Workshop } from './workshop.ts'

/** What must become of a file that is imported. */
export type Verdict =
  /** Stored byte by byte as it came, once unpacked. */
  | ({ readonly kind: 'accepted' } & Warned)
  /** Stored as our qcow2, with the disk that is in it. */
  | ({ readonly kind: 're-encoded'; readonly disk: DiskOf } & Warned)
  /** Refused with that code, and a message that has that text in it. */
  | { readonly kind: 'refused'; readonly code: ErrorCode; readonly names: string }

interface Warned {
  /** Part of what its import warns of. */
  readonly warning?: string
}

/**
 * Which disk it is: the workshop's, the file itself as it is once unpacked, or what qemu-img reads
 * of the file as this format.
 */
export type DiskOf = 'workshop' | 'file' | 'qcow2' | 'vmdk' | 'vdi' | 'vpc' | 'vhdx'

/** One file of the corpus. */
export interface CorpusFile {
  /** Unique; a file name. */
  readonly name: string
  /** For the page. */
  readonly what: string
  readonly verdict: Verdict
  /** The server that has it does not tell its length. */
  readonly isLengthUntold?: boolean
  /** Answers bytes of its own. */
  make(workshop: Workshop): Promise<Buffer>
}

type Make = (workshop: Workshop) => Buffer | Promise<Buffer>

export function accepted(name: string, what: string, make: Make): CorpusFile {
  return { name, what, verdict: { kind: 'accepted' }, make: async (shop) => make(shop) }
}

export function reEncoded(name: string, what: string, disk: DiskOf, make: Make): CorpusFile {
  return { name, what, verdict: { kind: 're-encoded', disk }, make: async (shop) => make(shop) }
}

export function refused(
  name: string,
  what: string,
  [code, names]: readonly [ErrorCode, string],
  make: Make,
): CorpusFile {
  const verdict = { kind: 'refused', code, names } as const
  return { name, what, verdict, make: async (shop) => make(shop) }
}

/** Becomes an image, with a warning that has this text in it. */
export function warned(file: CorpusFile, warning: string): CorpusFile {
  const { verdict } = file
  if (verdict.kind === 'refused') throw new Error(`${file.name} is refused`)
  return { ...file, verdict: { ...verdict, warning } }
}

/** From a server that does not tell its length: chunks, and then the end. */
export function ofUntoldLength(file: CorpusFile): CorpusFile {
  return { ...file, what: `${file.what}, its length not known`, isLengthUntold: true }
}
