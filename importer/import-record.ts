import { randomUUID, X509Certificate } from 'node:crypto'
import { z } from 'zod'
import { parseName, parseTag } from '../core/reference.ts'
import { importStages } from '../core/report.ts'
import type { ChecksumAlgorithm } from './checksums.ts'
import { credentialsSchema, separateUserInfo, type Credentials } from './sources/credentials.ts'
import { parseSource, type SourceAddress } from './sources/source-address.ts'
import type { ImportedImage } from './import-request.ts'
import { storeModes } from './plan.ts'

const hexDigits: Readonly<Record<ChecksumAlgorithm, number>> = {
  md5: 32,
  sha1: 40,
  sha256: 64,
  sha512: 128,
}

const hex = (algorithm: ChecksumAlgorithm) =>
  z
    .string()
    .toLowerCase()
    .regex(
      new RegExp(`^[0-9a-f]{${hexDigits[algorithm]}}$`),
      `expected ${hexDigits[algorithm]} hex digits`,
    )
    .optional()

const checksumsSchema = z
  .strictObject({
    md5: hex('md5'),
    sha1: hex('sha1'),
    sha256: hex('sha256'),
    sha512: hex('sha512'),
  })
  .describe('Expected checksums of the file as it is transferred.')

function isPem(text: string): boolean {
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
  try {
    return blocks.map((block) => new X509Certificate(block)).length > 0
  } catch {
    // Whatever is wrong with it, it is none.
    return false
  }
}

/** Body of `POST /v1/imports`. */
export const newImportSchema = z.strictObject({
  source: z
    .string()
    .max(8192)
    .describe(
      'Address of the image: http://, https://, s3://bucket/key, docker://host/name:tag, or image:name:tag of this registry. User info is taken as credentials.',
    ),
  mirrors: z
    .array(z.string().max(8192))
    .max(8)
    .default([])
    .describe('More http:// or https:// addresses of the same file, used where `source` fails.'),
  checksumsUrl: z
    .string()
    .max(8192)
    .optional()
    .describe(
      'Address of a list of checksums (SHA256SUMS), in which the file is found by its name. Checksums of both kinds are compared.',
    ),
  credentials: credentialsSchema.optional(),
  s3Endpoint: z.string().max(2048).optional().describe('s3://: address of the server; else AWS.'),
  s3Region: z
    .string()
    .regex(/^[a-z0-9-]{1,64}$/)
    .optional()
    .describe('s3://: region of the bucket.'),
  ca: z
    .string()
    .max(65_536)
    .refine(isPem, 'expected certificates in PEM')
    .optional()
    .describe('PEM: certificate authorities of the source, trusted besides the usual ones.'),
  insecureSkipVerify: z
    .boolean()
    .default(false)
    .describe('Accept any certificate of the source; of a registry also none at all.'),
  // Their limits have codes of their own: `checkNewImport`.
  name: z.string().meta({ maxLength: 255 }).describe('Repository to import into.'),
  tag: z.string().meta({ maxLength: 128 }).default('latest').describe('Tag to give the image.'),
  checksums: checksumsSchema.default({}),
  architecture: z
    .string()
    .regex(/^[a-z0-9_-]{1,32}$/)
    .optional()
    .describe(
      'What the disk is for, as the OCI names it, and which one of a container image for several. Found on the disk unless given.',
    ),
  replace: z.boolean().default(false).describe('Move the tag if it already exists.'),
  store: z
    .enum(storeModes)
    .default('auto')
    .describe('auto: raw disks are stored as compressed qcow2; as-is: the bytes as they came.'),
})
export type NewImport = z.output<typeof newImportSchema>

const keptRequestSchema = newImportSchema.omit({ credentials: true })
/** A request without its secrets. */
export type KeptRequest = z.output<typeof keptRequestSchema>

/** A request as it is kept, and what is kept elsewhere. Throws SOURCE_INVALID. */
export function separateSecrets({ credentials: given, ...request }: NewImport): {
  readonly request: KeptRequest
  readonly credentials: Credentials | undefined
} {
  const { source, credentials } = separateUserInfo(request.source, given)
  return { request: { ...request, source }, credentials }
}

/**
 * Throws NAME_INVALID, TAG_INVALID or SOURCE_INVALID for what only the field's own rules can tell.
 * Answers the source.
 */
export function checkNewImport(request: KeptRequest, credentials?: Credentials): SourceAddress {
  parseName(request.name)
  parseTag(request.tag)
  return parseSource(request, credentials)
}

export const importStates = [
  'queued',
  'running',
  'paused',
  'succeeded',
  'failed',
  'cancelled',
] as const

const bytes = z.int().nonnegative()

export const importedImageSchema = z.object({
  digest: z.string().describe('Digest of the manifest.'),
  format: z.string(),
  storedFormat: z.string(),
  architecture: z.string().optional(),
  virtualSize: bytes,
  layerDigest: z.string(),
  storedSize: bytes.describe('Bytes of the layer in the registry.'),
  contentDigest: z.string().optional(),
  sourceBytes: bytes.describe('Bytes transferred from the source.'),
  scratchBytes: bytes.describe('Bytes of temporary files that the import took.'),
  durationMs: z.number(),
  bytesPerSecond: z.number(),
})

/** An import as the API shows it; never holds a secret. */
export const importRecordSchema = z.object({
  id: z.uuid(),
  state: z.enum(importStates),
  source: z.string().describe('Scheme, host and path of the source.'),
  name: z.string(),
  tag: z.string(),
  createdAt: z.iso.datetime(),
  startedAt: z.iso.datetime().optional(),
  finishedAt: z.iso.datetime().optional(),
  attempts: z.int().describe('How often the transfer was started.'),
  stage: z.enum(importStages).optional(),
  progress: z.object({
    bytes: bytes,
    totalBytes: bytes.optional(),
    bytesPerSecond: z.number(),
    etaMs: z.number().optional(),
  }),
  format: z.string().optional(),
  virtualSize: bytes.optional(),
  warnings: z.array(z.string()),
  image: importedImageSchema.optional(),
  error: z.object({ code: z.string(), message: z.string(), retryable: z.boolean() }).optional(),
})
export type ImportRecord = z.output<typeof importRecordSchema>

/** What is kept of an import: the record and what a restart needs. No secret. */
export const storedImportSchema = z.object({
  record: importRecordSchema,
  request: keptRequestSchema,
  /** It came with credentials (`ImportSecrets`), and cannot run without them. */
  needsCredentials: z.boolean().optional(),
  idempotencyKey: z.string().optional(),
  /** The process that runs it, where several share a store. */
  runner: z.uuid().optional(),
  /** How far it had come after so many attempts, which were not in vain then. */
  advanced: z.object({ attempts: bytes, position: bytes }).optional(),
})
export type StoredImport = z.output<typeof storedImportSchema>

/** A new import, queued. `source` is its label. */
export function newImportRecord(
  source: string,
  { name, tag }: Pick<NewImport, 'name' | 'tag'>,
): ImportRecord {
  return {
    id: randomUUID(),
    state: 'queued',
    source,
    name,
    tag,
    createdAt: new Date().toISOString(),
    attempts: 0,
    progress: { bytes: 0, bytesPerSecond: 0 },
    warnings: [],
  }
}

/** The record's part about the image, with how fast it came. */
export function imageOf(
  { name: _name, tag: _tag, ...facts }: ImportedImage,
  startedMs: number,
): NonNullable<ImportRecord['image']> {
  const durationMs = Math.max(1, Math.round(performance.now() - startedMs))
  return {
    ...facts,
    durationMs,
    bytesPerSecond: Math.round((facts.sourceBytes * 1000) / durationMs),
  }
}

/** True for an import whose end lies before `time`. */
export function finishedBefore({ finishedAt }: ImportRecord, time: Date): boolean {
  return finishedAt !== undefined && new Date(finishedAt) < time
}

/** True once nothing changes any more, unless somebody asks for it again. */
export function isFinished({ state }: Pick<ImportRecord, 'state'>): boolean {
  return state === 'succeeded' || state === 'failed' || state === 'cancelled'
}

/** What of a record changes when it is to run again: a paused one goes on, others begin anew. */
export function runAgain({ state }: ImportRecord): Partial<ImportRecord> {
  if (state === 'paused') return { state: 'queued', error: undefined }
  return {
    state: 'queued',
    error: undefined,
    finishedAt: undefined,
    stage: undefined,
    attempts: 0,
    progress: { bytes: 0, bytesPerSecond: 0 },
    warnings: [],
  }
}
