import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { openDockerConfig, type Login } from '../core/docker-config.ts'
import { CodedError, hasErrno } from '../core/errors.ts'
import { parseHeaders } from './source-flags.ts'
import type { Terminal } from './terminal.ts'

/** As Kubernetes names it in a secret of its own type, and as docker does. */
const dockerFiles = ['.dockerconfigjson', 'config.json']

/** What the folder of a mounted secret says of a source. */
export interface SourceSecrets {
  /** Not judged yet. */
  readonly credentials: Readonly<Record<string, unknown>> | undefined
  /** PEM. */
  readonly ca: string | undefined
  /** Logins to registries, read when they are asked for. */
  readonly findLogin: (host: string) => Promise<Login | undefined>
}

/** Reads `user`, `password`, `token`, `headers` and `ca.crt`. Throws SETTING_INVALID. */
export async function readSourceSecrets(
  folder: string,
  env: Terminal['env'],
): Promise<SourceSecrets> {
  await requireThere(folder)
  const headersFile = join(folder, 'headers')
  const headers = await readText(headersFile)
  const given = {
    user: await readLine(join(folder, 'user')),
    password: await readLine(join(folder, 'password')),
    token: await readLine(join(folder, 'token')),
    headers: headers === undefined ? undefined : parseHeaders(headers, headersFile),
  }
  const known = Object.entries(given).filter(([, value]) => value !== undefined && value !== '')
  return {
    credentials: known.length === 0 ? undefined : Object.fromEntries(known),
    ca: await readText(join(folder, 'ca.crt')),
    async findLogin(host) {
      const file = await dockerFileAt(folder)
      return file === undefined ? undefined : openDockerConfig(env, file).find(host)
    },
  }
}

/**
 * Who we are to the registry `host` now: from docker's file, or a folder with it or with the files
 * `user` and `password`. Throws SETTING_INVALID where they do not say it.
 */
export async function readTargetLogin(
  path: string,
  host: string,
  env: Terminal['env'],
): Promise<Login> {
  const file = await dockerFileAt(path)
  if (file !== undefined) {
    const login = await openDockerConfig(env, file).find(host)
    if (login) return login
    throw new CodedError('SETTING_INVALID', `${file} has no login for ${host}`)
  }
  const user = await readLine(join(path, 'user'))
  const password = await readLine(join(path, 'password'))
  if (user && password) return { kind: 'password', user, password }
  throw new CodedError(
    'SETTING_INVALID',
    `${path} has neither ${dockerFiles.join(' nor ')} nor the files user and password`,
  )
}

/** Docker's file: `path` itself, or in it. */
async function dockerFileAt(path: string): Promise<string | undefined> {
  if (!(await requireThere(path)).isDirectory()) return path
  for (const name of dockerFiles) {
    const file = join(path, name)
    if ((await readText(file)) !== undefined) return file
  }
  return undefined
}

async function requireThere(path: string) {
  return stat(path).catch((error: unknown) => {
    throw unreadable(path, error)
  })
}

const readLine = async (path: string): Promise<string | undefined> =>
  (await readText(path))?.replace(/\r?\n$/, '')

/** `undefined` where there is no such file. */
async function readText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined
    throw unreadable(path, error)
  }
}

export function unreadable(path: string, error: unknown): CodedError {
  const why = error instanceof Error && 'code' in error ? String(error.code) : String(error)
  return new CodedError('SETTING_INVALID', `cannot read ${path}: ${why}`, { cause: error })
}
