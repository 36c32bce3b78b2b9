import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Log } from '../core/log.ts'
import { hasErrno } from '../core/errors.ts'
import { credentialsSchema, type Credentials } from './sources/credentials.ts'

/** The credentials of imports that are not finished. Nobody else has them. */
export interface ImportSecrets {
  /** `undefined` where they were never given, or the process that had them has ended. */
  get(id: string): Promise<Credentials | undefined>
  keep(id: string, credentials: Credentials): Promise<void>
  forget(id: string): Promise<void>
  /** Forgets those of all imports but these. */
  forgetOthers(ids: ReadonlySet<string>): Promise<void>
}

/** In memory only: where several processes share a store, or it is on other machines. */
export function createMemorySecrets(): ImportSecrets {
  const kept = new Map<string, Credentials>()
  return {
    get: async (id) => kept.get(id),
    keep: async (id, credentials) => void kept.set(id, credentials),
    forget: async (id) => void kept.delete(id),
    async forgetOthers(ids) {
      for (const id of kept.keys()) if (!ids.has(id)) kept.delete(id)
    },
  }
}

/**
 * In files of `folder`, made where it is missing, which only their owner can read: they survive the
 * process. A file that cannot be read is as if it were not there.
 */
export function createSecretFiles(folder: string, log: Log): ImportSecrets {
  const pathOf = (id: string): string => join(folder, `${id}.json`)
  return {
    async get(id) {
      try {
        return credentialsSchema.parse(JSON.parse(await readFile(pathOf(id), 'utf8')))
      } catch (error) {
        // Not the reason: the parser's own may quote the file.
        if (!hasErrno(error, 'ENOENT')) log.warn({ import: id }, 'credentials are unreadable')
        return undefined
      }
    },
    async keep(id, credentials) {
      await mkdir(folder, { recursive: true, mode: 0o700 })
      const path = pathOf(id)
      const temporary = `${path}.new`
      await rm(temporary, { force: true })
      {
        await using file = await open(temporary, 'wx', 0o600)
        await file.writeFile(JSON.stringify(credentials))
        await file.sync()
      }
      await rename(temporary, path)
      for (const written of [folder, dirname(folder)]) {
        await using directory = await open(written, 'r')
        await directory.sync()
      }
    },
    forget: (id) => rm(pathOf(id), { force: true }),
    async forgetOthers(ids) {
      const names = await readdir(folder).catch((error: unknown) => {
        if (hasErrno(error, 'ENOENT')) return []
        throw error
      })
      for (const name of names) {
        if (!ids.has(name.replace(/\.json$/, ''))) await rm(join(folder, name), { force: true })
      }
    },
  }
}

/** What an import shows that waits for credentials. */
export const credentialsRequired = (id: string) => ({
  code: 'CREDENTIALS_REQUIRED',
  message: `the process that had the credentials of the source has ended; give them again: PUT /v1/imports/${id}/credentials`,
  retryable: false,
})
