import { dirname } from 'node:path/posix'
import { keys } from '../keys.ts'
import { currentLayout, layoutKey, layoutRecord } from '../layout.ts'
import { checkAccounts } from './check-accounts.ts'
import {
  checkLink,
  checkPointer,
  checkQuarantine,
  checkReference,
  checkSession,
  type CheckParts,
} from './check-blobs.ts'
import { checkManifest, checkReferrer, checkTag } from './check-manifests.ts'
import { finding, type Finding } from './findings.ts'
import { parseKey, walkKeys, walkOutside } from './keyspace.ts'
import { see } from './see.ts'

/** Looks at one thing; answers what is wrong with it now. May be repeated. */
export type Look = () => Promise<Finding[]>

/** One part of the store, a batch of looks at a time. */
export interface Stage {
  readonly name: string
  readonly batches: AsyncIterable<readonly Look[]>
}

const walked = ['v1/uploads/', 'v1/quarantine/', 'v1/blobs/', 'v1/refs/', 'v1/repos/'] as const
/** Walked too, but for the names only. */
const known = [...walked, keys.dataFolder, 'v1/gc/', 'v1/auth/', 'v1/pulls/', 'v1/events/']
/** In a folder they lie beside the objects. */
const beside = ['lock', 'scratch/', 'lost+found']

/**
 * All that there is to look at, in order. Data objects are listed first: whatever is there then is
 * named by a session or a pointer, then and later, until it is deleted.
 */
export async function* fsckStages(parts: Omit<CheckParts, 'claim'>): AsyncGenerator<Stage, void> {
  const { objects } = parts
  const unclaimed = new Map<string, string[]>()
  const check: CheckParts = { ...parts, claim: (data) => void unclaimed.delete(data) }
  yield { name: 'data', batches: listData() }
  for (const folder of walked) {
    yield { name: folder.slice('v1/'.length, -1), batches: walk(folder) }
  }
  yield { name: 'orphans', batches: orphans() }
  yield { name: 'others', batches: others() }
  yield { name: 'quotas', batches: once(() => checkAccounts(check)) }

  async function* listData(): AsyncGenerator<readonly Look[], void> {
    for await (const page of walkKeys(objects, keys.dataFolder)) {
      const looks: Look[] = []
      for (const key of page) {
        const thing = parseKey(key)
        if (thing?.kind !== 'data') looks.push(() => checkUnknown(key))
        else unclaimed.set(thing.uuid, [...(unclaimed.get(thing.uuid) ?? []), key])
      }
      yield looks
    }
  }

  async function* walk(folder: string): AsyncGenerator<readonly Look[], void> {
    for await (const page of walkKeys(objects, folder)) yield page.map(lookAt)
  }

  async function* orphans(): AsyncGenerator<readonly Look[], void> {
    for (const found of unclaimed.values()) {
      yield found.map((key): Look => async () => {
        const problem = 'no blob, upload or quarantine names it'
        return (await exists(key)) ? [finding('data-orphan', key, problem)] : []
      })
    }
  }

  async function* others(): AsyncGenerator<readonly Look[], void> {
    yield [checkLayout]
    for await (const key of walkOutside(objects, '', [...known, ...beside])) yield [lookAt(key)]
  }

  function lookAt(key: string): Look {
    const thing = parseKey(key)
    switch (thing?.kind) {
      case 'pointer':
        return () => checkPointer(check, thing.digest)
      case 'reference':
        return () => checkReference(check, thing)
      case 'session':
        return () => checkSession(check, thing.id)
      case 'quarantine':
        return () => checkQuarantine(check, thing.digest, thing.uuid)
      case 'link':
        return () => checkLink(check, thing.name, thing.digest)
      case 'manifest':
        return () => checkManifest(check, thing.name, thing.digest)
      case 'referrer':
        return () => checkReferrer(check, thing)
      case 'tag':
        return () => checkTag(check, thing.name, thing.tag)
      case 'data':
      case 'other':
        return () => Promise.resolve([])
      case undefined:
        return () => checkUnknown(key)
    }
  }

  async function checkUnknown(key: string): Promise<Finding[]> {
    return (await exists(key)) ? [finding('key-unknown', key, 'no key of this layout')] : []
  }

  /** By its name: nobody knows how large it is. */
  async function exists(key: string): Promise<boolean> {
    const folder = dirname(key)
    return (await objects.list(folder === '.' ? '' : `${folder}/`, {})).includes(key)
  }

  async function checkLayout(): Promise<Finding[]> {
    const { record, damage } = await see(check, layoutRecord, layoutKey)
    if (damage) return [damage]
    if (record?.layout === currentLayout) return []
    const problem = record ? `it says ${record.layout}` : 'it is missing'
    return [finding('layout-differs', layoutKey, `${problem}; this version knows ${currentLayout}`)]
  }
}

async function* once(look: Look): AsyncGenerator<readonly Look[], void> {
  yield [look]
}
