import type { z } from 'zod'
import type { ObjectStore } from '../../core/object-store.ts'
import { decodeJson } from '../records.ts'
import { finding, type Finding } from './findings.ts'

/** A record as stored: not there, not readable, or what it says. */
type Seen<T> = { readonly record?: T; readonly damage?: Finding }

export async function see<T>(
  { objects }: { readonly objects: ObjectStore },
  schema: z.ZodType<T>,
  key: string,
): Promise<Seen<T>> {
  const stored = await objects.get(key)
  if (!stored) return {}
  try {
    return { record: decodeJson(schema, stored.bytes, key) }
  } catch (error) {
    return { damage: finding('record-damaged', key, whyNot(error)) }
  }
}

/** The reason at the bottom of a failure, in one line. */
export function whyNot(error: unknown): string {
  const { cause } = error instanceof Error ? error : {}
  const reason = cause instanceof Error ? cause : error
  const text = reason instanceof Error ? reason.message : String(reason)
  return text.replaceAll(/\s+/g, ' ').slice(0, 300)
}
