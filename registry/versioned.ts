import type { z } from 'zod'
import type { ObjectStore } from '../core/object-store.ts'
import { decodeJson, encodeJson } from './records.ts'

/** A record and the version of it that was read. */
export interface Versioned<T> {
  readonly record: T
  readonly etag: string
}

/** Reads a JSON record with its version; `undefined` where there is none. */
export async function readVersioned<T>(
  objects: ObjectStore,
  schema: z.ZodType<T>,
  key: string,
): Promise<Versioned<T> | undefined> {
  const stored = await objects.get(key)
  return stored && { record: decodeJson(schema, stored.bytes, key), etag: stored.etag }
}

/** Writes `record` where the version read (none: `undefined`) is still there; the new one, if so. */
export async function swap<T>(
  objects: ObjectStore,
  key: string,
  record: T,
  current: { readonly etag: string } | undefined,
): Promise<Versioned<T> | undefined> {
  const condition = current ? { ifMatch: current.etag } : 'ifAbsent'
  const etag = await objects.put(key, encodeJson(record), condition)
  return etag === undefined ? undefined : { record, etag }
}

const dayMs = 24 * 60 * 60 * 1000

/**
 * Removes a dead record that was not written since it was read. Where the store cannot do that in
 * one step, only long after its end: nobody is about to write it any more.
 */
export async function removeDead(
  objects: ObjectStore,
  key: string,
  { record, etag }: Versioned<{ readonly since?: string | undefined }>,
): Promise<void> {
  const isLongDead = record.since !== undefined && Date.parse(record.since) + dayMs < Date.now()
  if (objects.conditionalDelete || isLongDead) await objects.delete(key, { ifMatch: etag })
}
