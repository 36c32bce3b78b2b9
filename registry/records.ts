import { z } from 'zod'
import { parseDigest } from '../core/digest.ts'
import { CodedError } from '../core/errors.ts'

const digest = z.string().transform((text) => parseDigest(text))
const size = z.int().nonnegative()

/** The commit point of a blob: its bytes are `[offset, offset + size)` of the data object. */
export const pointerRecord = z.object({
  state: z.literal('live'),
  gen: z.int(),
  data: z.uuid(),
  offset: size,
  size,
  sha256: z.string().optional(),
  sha512: z.string().optional(),
  at: z.iso.datetime(),
})
export type Pointer = z.output<typeof pointerRecord>

/** The right of a repository to read a blob; `nonce` names its reference. */
export const linkRecord = z.object({
  state: z.literal('live'),
  nonce: z.uuid(),
  at: z.iso.datetime(),
})

/** An upload on its way; `offset` bytes are acknowledged, `committing` is set before the pointer. */
export const sessionRecord = z.object({
  repo: z.string(),
  data: z.uuid(),
  offset: size,
  reserve: size,
  owner: z.enum(['client', 'import']),
  committing: digest.optional(),
  at: z.iso.datetime(),
})
export type Session = z.output<typeof sessionRecord>

export const tagRecord = z.object({ digest, mediaType: z.string(), size, at: z.iso.datetime() })

/** What is known of a manifest without reading it. */
export const manifestRecord = z.object({
  mediaType: z.string(),
  size,
  references: z.array(digest),
  subject: digest.optional(),
  artifactType: z.string().optional(),
  annotations: z.record(z.string(), z.string()).optional(),
})

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
