import { mkdir, readdir, rm } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { z } from 'zod'
import { CodedError } from '../../core/errors.ts'
import type { HashPool } from '../../core/hash-pool.ts'
import type { ObjectStore } from '../../core/object-store.ts'
import type { Storage } from '../data-store.ts'
import { acquireLock } from '../lock.ts'
import { decodeJson, encodeJson } from '../records.ts'
import { createDurableFolders, syncFolder } from './durable-folders.ts'
import { createFolderData } from './folder-data.ts'
import { createFolderObjects } from './folder-objects.ts'

const layoutKey = 'layout.json'
const layout = z.looseObject({ layout: z.number() })
const currentLayout = 1

/** What a folder may hold before its first start: a mount point's own, and ours from a crash. */
const harmlessNames = ['lost+found', 'lock', 'scratch']

/**
 * Takes the folder at `root`, made where it is missing, for this process alone. Throws
 * STORE_LOCKED where another process has it, LAYOUT_UNKNOWN where it holds something else.
 */
export async function openFolderStore(
  root: string,
  { hashPool }: { readonly hashPool: HashPool },
): Promise<Storage> {
  const path = resolve(root)
  await makeRoot(path)
  await refuseForeign(path)
  const lock = await acquireLock(join(path, 'lock'))
  try {
    const scratch = join(path, 'scratch')
    await rm(scratch, { recursive: true, force: true })
    await mkdir(scratch)
    const folders = createDurableFolders(path)
    const objects = createFolderObjects(path, { scratch, folders })
    await checkLayout(path, objects)
    return {
      objects,
      ...createFolderData(path, { folders, hashPool }),
      isOwned: true,
      [Symbol.asyncDispose]: () => lock[Symbol.asyncDispose](),
    }
  } catch (error) {
    await lock[Symbol.asyncDispose]()
    throw error
  }
}

async function makeRoot(path: string): Promise<void> {
  const first = await mkdir(path, { recursive: true })
  if (first === undefined) return
  for (let made = path; made.length >= first.length; made = dirname(made)) {
    await syncFolder(dirname(made))
  }
}

async function refuseForeign(path: string): Promise<void> {
  const names = await readdir(path)
  if (names.includes(layoutKey)) return
  const foreign = names.find((name) => !harmlessNames.includes(name))
  if (foreign === undefined) return
  throw new CodedError(
    'LAYOUT_UNKNOWN',
    `cannot keep data in ${path}: it holds other files (${foreign}, …); name an empty folder`,
  )
}

async function checkLayout(path: string, objects: ObjectStore): Promise<void> {
  const stored = await objects.get(layoutKey)
  if (!stored) {
    await objects.put(layoutKey, encodeJson({ layout: currentLayout }), 'ifAbsent')
    return
  }
  const found = decodeJson(layout, stored.bytes, join(path, layoutKey)).layout
  if (found === currentLayout) return
  throw new CodedError(
    'LAYOUT_UNKNOWN',
    `cannot use ${path}: its layout is ${found}, this version knows ${currentLayout}; use the version that wrote it`,
  )
}
