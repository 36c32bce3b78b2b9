import { mkdir, readdir, rm } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { CodedError } from '../../core/errors.ts'
import type { HashPool } from '../../core/hash-pool.ts'
import type { Log } from '../../core/log.ts'
import type { Storage } from '../data-store.ts'
import { claimLayout, layoutKey } from '../layout.ts'
import { acquireLock } from '../lock.ts'
import { createDurableFolders, syncFolder } from './durable-folders.ts'
import { createFolderData } from './folder-data.ts'
import { createFolderObjects } from './folder-objects.ts'
import { createWritePool } from './write-pool.ts'

/** As of every failure that may pass (`docs/cli.md`). */
const retryExitCode = 3

/** What a folder may hold before its first start: a mount point's own, and ours from a crash. */
const harmlessNames = ['lost+found', 'lock', 'scratch']

export interface FolderStoreDeps {
  readonly hashPool: HashPool
  readonly log?: Log
  readonly onLost?: (error: CodedError) => void
}

/**
 * Takes the folder at `root`, made where it is missing, for this process alone. Throws
 * STORE_LOCKED where another process has it, LAYOUT_UNKNOWN where it holds something else. Another
 * process takes it over only from one that was silent for long: `onLost` then ends this one.
 */
export async function openFolderStore(
  root: string,
  { hashPool, log, onLost = endProcess }: FolderStoreDeps,
): Promise<Storage> {
  const path = resolve(root)
  await makeRoot(path)
  await refuseForeign(path)
  const lock = await acquireLock(join(path, 'lock'), {
    onLost,
    onListen: ({ pid, host }) =>
      log?.warn({ pid, host }, 'listening for half a minute whether the owner of the data lives'),
  })
  try {
    const scratch = join(path, 'scratch')
    await rm(scratch, { recursive: true, force: true })
    await mkdir(scratch)
    const folders = createDurableFolders(path)
    const objects = createFolderObjects(path, { scratch, folders, lock })
    await claimLayout(objects, path)
    const writePool = createWritePool()
    return {
      objects,
      ...createFolderData(path, { folders, hashPool, writePool }),
      isOwned: true,
      async [Symbol.asyncDispose]() {
        await writePool[Symbol.asyncDispose]()
        await lock[Symbol.asyncDispose]()
      },
    }
  } catch (error) {
    await lock[Symbol.asyncDispose]()
    throw error
  }
}

/** At once: whatever this process still acknowledged would be lost or would harm the new owner. */
function endProcess(error: CodedError): never {
  process.stderr.write(`dvcr: ${error.code}: ${error.message}\n`)
  process.exit(retryExitCode)
}

async function makeRoot(path: string): Promise<void> {
  // Keys that sign tokens are in it.
  const first = await mkdir(path, { recursive: true, mode: 0o700 })
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
