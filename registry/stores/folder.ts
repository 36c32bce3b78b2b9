import { mkdir, readdir, rm } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { CodedError } from '../../core/errors.ts'
import type { HashPool } from '../../core/hash-pool.ts'
import type { Storage } from '../data-store.ts'
import { claimLayout, layoutKey } from '../layout.ts'
import { acquireLock } from '../lock.ts'
import { createDurableFolders, syncFolder } from './durable-folders.ts'
import { createFolderData } from './folder-data.ts'
import { createFolderObjects } from './folder-objects.ts'

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
    await claimLayout(objects, path)
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
