import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { hasErrno } from '../../core/errors.ts'
import { pointerRecord, type Pointer } from '../../registry/records.ts'

/** What lies in a data folder (`docs/store-layout.md`). */
export interface StoreContents {
  /** Digests of the blobs that can be read. */
  readonly blobs: readonly string[]
  /** Of those, the ones whose bytes have another digest. */
  readonly broken: readonly string[]
  /** Data that no blob is made of. */
  readonly orphans: readonly string[]
  /** Sessions that are open. */
  readonly uploads: readonly string[]
  /** Temporary files. */
  readonly scratch: readonly string[]
}

/** Reads a data folder as it lies on the disk, all bytes of all blobs included. */
export async function readStoreFolder(root: string): Promise<StoreContents> {
  const pointers = new Map<string, Pointer>()
  for (const path of await filesOf(join(root, 'v1/blobs'))) {
    const digest = `sha256:${basename(path, '.json')}`
    pointers.set(digest, pointerRecord.parse(JSON.parse(await readFile(path, 'utf8'))))
  }
  const used = new Set([...pointers.values()].map(({ data }) => data))
  const broken: string[] = []
  for (const [digest, pointer] of pointers) {
    if ((await digestOfData(root, pointer)) !== digest) broken.push(digest)
  }
  const data = await filesOf(join(root, 'v1/data'))
  return {
    blobs: [...pointers.keys()].sort(),
    broken,
    orphans: data.filter((path) => !used.has(basename(path))),
    uploads: await filesOf(join(root, 'v1/uploads')),
    scratch: await filesOf(join(root, 'scratch')),
  }
}

async function digestOfData(root: string, { data, offset, size }: Pointer): Promise<string> {
  const hash = createHash('sha256')
  const path = join(root, 'v1/data', data.slice(0, 2), data)
  const range = { start: offset, end: offset + size - 1, highWaterMark: 1024 * 1024 }
  try {
    if (size > 0) await pipeline(createReadStream(path, range), hash)
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return 'missing'
    throw error
  }
  return `sha256:${hash.digest('hex')}`
}

async function filesOf(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { recursive: true, withFileTypes: true })
    return entries
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .sort()
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return []
    throw error
  }
}
