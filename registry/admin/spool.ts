import { randomUUID } from 'node:crypto'
import { mkdir, open, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { toCodedError } from '../../core/errors.ts'

/** Bytes that are put aside until they are needed. */
export interface Spool extends AsyncDisposable {
  /** Where they are. */
  add(bytes: Uint8Array): Promise<SpooledBytes>
  get(where: SpooledBytes): Promise<Uint8Array>
}

export interface SpooledBytes {
  readonly position: number
  readonly size: number
}

/** A file without a name in `folder`: nothing of it is left whatever happens. */
export async function createSpool(folder: string): Promise<Spool> {
  await mkdir(folder, { recursive: true })
  const path = join(folder, `dvcr-${randomUUID()}`)
  const file = await open(path, 'wx+', 0o600)
  await unlink(path)
  let end = 0
  return {
    async add(bytes) {
      const position = end
      try {
        await file.write(bytes, 0, bytes.length, position)
      } catch (error) {
        throw toCodedError(error)
      }
      end += bytes.length
      return { position, size: bytes.length }
    },
    async get({ position, size }) {
      const bytes = Buffer.alloc(size)
      await file.read(bytes, 0, size, position)
      return bytes
    },
    [Symbol.asyncDispose]: () => file.close(),
  }
}
