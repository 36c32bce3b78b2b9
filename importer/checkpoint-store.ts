import { z } from 'zod'
import { compressions } from '../core/disk-format.ts'
import { CodedError } from '../core/errors.ts'
import type { Log } from '../core/log.ts'
import type { ObjectStore } from '../core/object-store.ts'
import type { Registry } from '../core/registry.ts'
import type { CheckpointKeeper, ImportCheckpoint } from './import-checkpoint.ts'

/** After so many bytes of a disk its import writes down how far it is. */
export const checkpointEveryBytes = 64 * 1024 * 1024

export interface CheckpointStoreDeps {
  readonly objects: ObjectStore
  /** That the layers are in. */
  readonly registry: Registry
  readonly log: Log
  /** `checkpointEveryBytes`, unless a test says otherwise. */
  readonly everyBytes: number
}

const folderOf = (id: string): string => `v1/imports-state/${id}/`

const bytes = z.int().nonnegative()
const state = z.string().optional()

/** The line that the object `state` begins with; head and staged bytes follow. */
const headerSchema = z.object({
  source: z.object({ offset: bytes, pin: z.string(), length: bytes }),
  checksums: z.object({
    bytes,
    hashes: z.object({ md5: state, sha1: state, sha256: state, sha512: state }),
  }),
  decoding: z
    .object({
      compression: z.enum(compressions),
      compressed: bytes,
      decoded: bytes,
      xz: z.object({ check: bytes, blocks: bytes, unpacked: bytes }).optional(),
    })
    .optional(),
  position: bytes,
  layer: z.object({
    blob: z.string().optional(),
    pieces: z.object({ pieces: bytes, bytes }).optional(),
  }),
  version: z.string(),
  headBytes: bytes,
  /** The objects that hold the encoder's records, and their bytes; not for what is copied. */
  records: z.object({ pieces: bytes, bytes }).optional(),
})
type Header = z.output<typeof headerSchema>

/**
 * Keeps how far the import `id` into the repository `name` is, in objects beside its record:
 * `records-<n>`, each with what the encoder did since the one before, `layer-<n>` with bytes of a
 * layer that its registry does not keep, and `state`, which is written after them and counts those
 * that belong to it.
 */
export function keepCheckpoints(
  { id, name }: { readonly id: string; readonly name: string },
  { objects, registry, log, everyBytes }: CheckpointStoreDeps,
): CheckpointKeeper {
  const folder = folderOf(id)
  const key = `${folder}state`
  const recordsKey = (index: number): string => `${folder}records-${index}`
  let pieces = 0
  let recordBytes = 0

  async function require(of: string): Promise<Uint8Array> {
    const object = await objects.get(of)
    if (!object) throw new CodedError('UNKNOWN', `the stored object ${of} is missing`)
    return object.bytes
  }

  async function readRecords(wanted: NonNullable<Header['records']>): Promise<Uint8Array> {
    const parts: Uint8Array[] = []
    for (let index = 0; index < wanted.pieces; index++) {
      parts.push(await require(recordsKey(index)))
    }
    const records = Buffer.concat(parts)
    if (records.length !== wanted.bytes) throw new Error('its records are of another length')
    return records
  }

  async function read(object: Uint8Array): Promise<ImportCheckpoint> {
    const end = object.indexOf(10)
    const header = headerSchema.parse(JSON.parse(Buffer.from(object.subarray(0, end)).toString()))
    const { source, checksums, decoding, position, layer, version, headBytes } = header
    const rest = object.subarray(end + 1)
    const records = header.records && (await readRecords(header.records))
    pieces = header.records?.pieces ?? 0
    recordBytes = header.records?.bytes ?? 0
    const encoder = records && { records, staged: rest.subarray(headBytes) }
    const pack = { position, layer, version, encoder }
    return { source, checksums, decoding, head: rest.subarray(0, headBytes), pack }
  }

  async function write({ head, pack, ...place }: ImportCheckpoint): Promise<void> {
    const { encoder, ...rest } = pack
    if (encoder && encoder.records.length > 0) {
      await objects.put(recordsKey(pieces), encoder.records, 'always')
      pieces++
      recordBytes += encoder.records.length
    }
    const records = encoder && { pieces, bytes: recordBytes }
    const header: Header = { ...rest, ...place, headBytes: head.length, records }
    const line = Buffer.from(`${JSON.stringify(header)}\n`)
    const staged = encoder?.staged ?? new Uint8Array()
    await objects.put(key, Buffer.concat([line, head, staged]), 'always')
  }

  return {
    everyBytes,
    async putPiece(index, piece) {
      await objects.put(`${folder}layer-${index}`, piece, 'always')
    },
    getPiece: (index) => require(`${folder}layer-${index}`),
    async load() {
      const object = await objects.get(key)
      if (!object) return undefined
      try {
        return await read(object.bytes)
      } catch (error) {
        log.warn({ import: id, err: error }, 'cannot read how far an import was: it starts again')
        return undefined
      }
    },
    async save(checkpoint) {
      try {
        await write(checkpoint)
      } catch (error) {
        log.warn({ import: id, err: error }, 'cannot write down how far an import is')
        throw error
      }
    },
    async forget() {
      const kept = await this.load()
      if (kept?.pack.layer.blob) await registry.repository(name).blobs.forget(kept.pack.layer.blob)
      for (const each of await objects.list(folder, {})) await objects.delete(each)
      pieces = 0
      recordBytes = 0
    },
  }
}
