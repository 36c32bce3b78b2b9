import { z } from 'zod'
import { parseDigest } from '../core/digest.ts'
import { CodedError } from '../core/errors.ts'

const digest = z.string().transform((text) => parseDigest(text))
const size = z.int().nonnegative()

/**
 * What may still be collected says so first: `condemned` serves and can be taken back to `live`,
 * `dead` is gone for everybody, its record only waits to be removed. `registry/gc/`
 */
const state = z.enum(['live', 'condemned', 'dead'])

/** Changes of one record; etags follow the contents, so two versions must never be equal. */
const rev = z.int().nonnegative()

/**
 * The commit point of a blob: its bytes are `[offset, offset + size)` of the data object, or of the
 * objects whose lengths `segments` lists.
 */
export const pointerRecord = z.object({
  state,
  rev,
  data: z.uuid(),
  offset: size,
  size,
  segments: z.array(size).optional(),
  at: z.iso.datetime(),
  since: z.iso.datetime().optional(),
  /** Dead because the bytes are damaged: they stay, and belong to a quarantine record. */
  quarantined: z.literal(true).optional(),
})
export type Pointer = z.output<typeof pointerRecord>

/**
 * The right of a repository to read a blob of `size` bytes; `nonce` names its reference. `at`: last
 * pushed or mounted; `asked`: last answered while it was condemned; `since`: condemned or dead.
 */
export const linkRecord = z.object({
  state,
  rev,
  nonce: z.uuid(),
  size,
  at: z.iso.datetime(),
  asked: z.iso.datetime().optional(),
  since: z.iso.datetime().optional(),
})
export type Link = z.output<typeof linkRecord>

/** Bytes that do not have the digest they were stored under. Nobody reads them any more. */
export const quarantineRecord = z.object({
  data: z.uuid(),
  offset: size,
  size,
  segments: z.array(size).optional(),
  /** What their digest is; `undefined` where they cannot be read. */
  found: digest.optional(),
  why: z.string(),
  /** Repositories that could read them. */
  repositories: z.array(z.string()),
  at: z.iso.datetime(),
})
export type Quarantine = z.output<typeof quarantineRecord>

/**
 * How to go on writing a data object, in any process: `offset` bytes are durable. `hashes` are
 * states of `core/resumable-hash.ts` after exactly so many bytes.
 */
export const checkpointRecord = z.object({
  offset: size,
  hashes: z.object({ sha256: z.string().optional(), sha512: z.string().optional() }).optional(),
  /** Parsed by the S3 driver only. */
  s3: z.record(z.string(), z.unknown()).optional(),
})
export type Checkpoint = z.output<typeof checkpointRecord>

/**
 * A blob on its way. `writer` is the process that wrote last; with `rev` no two versions are
 * equal. `algorithm` is hashed while the bytes come. `committing`: all bytes of `blob` are durable
 * and verified, from now on it only becomes a blob. `ended`: nobody goes on with it any more.
 */
export const sessionRecord = z.object({
  repo: z.string(),
  owner: z.enum(['client', 'import']),
  state: z.enum(['open', 'committing', 'ended']),
  data: z.uuid(),
  algorithm: z.enum(['sha256', 'sha512']),
  checkpoint: checkpointRecord,
  blob: z.object({ digest, offset: size, size }).optional(),
  /** Of an import that may go on after the death of its process. */
  resumable: z.literal(true).optional(),
  writer: z.uuid(),
  rev,
  at: z.iso.datetime(),
})
export type Session = z.output<typeof sessionRecord>

export const tagRecord = z.object({
  digest,
  mediaType: z.string(),
  size,
  nonce: z.uuid(),
  at: z.iso.datetime(),
})
export type TagRecord = z.output<typeof tagRecord>

/**
 * What a manifest's object says before the bytes as pushed. `kept`: referenced, never demanded.
 * A `pending` one keeps what it refers to while its push looks whether all of it is there; nobody
 * else sees it.
 */
export const manifestRecord = z.object({
  state: z.enum(['pending', ...state.options]),
  nonce: z.uuid(),
  mediaType: z.string(),
  blobs: z.array(digest),
  manifests: z.array(digest),
  kept: z.array(digest),
  subject: digest.optional(),
  artifactType: z.string().optional(),
  /** What it refers to may be missing here: a mirror fetches it when it is asked for. */
  partial: z.boolean().optional(),
  annotations: z.record(z.string(), z.string()).optional(),
  at: z.iso.datetime(),
  since: z.iso.datetime().optional(),
})
export type ManifestRecord = z.output<typeof manifestRecord>

export function encodeJson(value: unknown): Uint8Array {
  return Buffer.from(`${JSON.stringify(value)}\n`)
}

/** Throws UNKNOWN naming `key` where the bytes are not such a record. */
export function decodeJson<T>(schema: z.ZodType<T>, bytes: Uint8Array, key: string): T {
  try {
    return schema.parse(JSON.parse(Buffer.from(bytes).toString()))
  } catch (error) {
    throw new CodedError('UNKNOWN', `the stored record ${key} is damaged`, { cause: error })
  }
}
