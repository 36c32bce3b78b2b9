import { digestOf, type Digest } from '../../core/digest.ts'

/** Blobs of a manifest; as many are garbage. */
export const seededPerManifest = 10
const blobsPerRepository = 1000

/** A tiny blob of a store that was not pushed but seeded. */
export interface SeededBlob {
  readonly repository: string
  readonly bytes: Uint8Array
  readonly digest: Digest
  /** A manifest refers to it; else it is garbage. */
  readonly isKept: boolean
}

/** The blob of that number; they come in tens, kept ones and garbage in turn. */
export function seededBlob(number: number): SeededBlob {
  const bytes = Buffer.from(`seeded blob ${number}\n`)
  return {
    repository: `seeded/r${Math.floor(number / blobsPerRepository)}`,
    bytes,
    digest: digestOf(bytes),
    isKept: Math.floor(number / seededPerManifest) % 2 === 0,
  }
}
