import { z } from 'zod'
import { CodedError } from '../core/errors.ts'
import type { ObjectStore } from '../core/object-store.ts'
import { decodeJson, encodeJson } from './records.ts'

/** Says which layout a store has; the first object written, the only one outside of `v1/`. */
export const layoutKey = 'layout.json'
export const layoutRecord = z.looseObject({ layout: z.number() })
/** `docs/store-layout.md`; another number for every change that older versions cannot read. */
export const currentLayout = 2

/**
 * Makes an empty store one of this layout. Throws LAYOUT_UNKNOWN where it has another one, naming
 * `place` and what to do.
 */
export async function claimLayout(objects: ObjectStore, place: string): Promise<void> {
  const marker = encodeJson({ layout: currentLayout })
  const stored = await objects.get(layoutKey)
  if (!stored && (await objects.put(layoutKey, marker, 'ifAbsent')) !== undefined) return
  const found = stored ?? (await objects.get(layoutKey))
  if (!found) throw new CodedError('UNAVAILABLE', `cannot mark ${place} as a store; try again`)
  const { layout } = decodeJson(layoutRecord, found.bytes, layoutKey)
  if (layout === currentLayout) return
  throw new CodedError(
    'LAYOUT_UNKNOWN',
    `cannot use ${place}: its layout is ${layout}, this version knows ${currentLayout}; ${remedyFor(layout)}`,
  )
}

function remedyFor(layout: number): string {
  if (layout > currentLayout) return 'use the newer version that wrote it'
  return 'copy its images with the older version into a new store, as the upgrade notes in CHANGELOG.md say'
}
