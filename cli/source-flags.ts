import { readFile } from 'node:fs/promises'
import { openDockerConfig } from '../core/docker-config.ts'
import { CodedError } from '../core/errors.ts'
import type { Credentials } from '../importer/sources/credentials.ts'
import { imageScheme, parseImageAddress } from '../importer/sources/image-address.ts'
import type { Terminal } from './terminal.ts'

/** Flags that say how a source is reached and who we are to it; secrets are in files. */
export interface SourceFlags {
  readonly mirror?: readonly string[]
  readonly checksumsUrl?: string
  readonly user?: string
  readonly passwordFile?: string
  readonly tokenFile?: string
  readonly headersFile?: string
  readonly dockerLogin?: boolean
  readonly ca?: string
  readonly insecureSkipVerify?: boolean
  readonly s3Endpoint?: string
  readonly s3Region?: string
}

/** The fields of a request that they stand for, not judged yet. Throws SETTING_INVALID. */
export async function readSourceFlags(
  source: string,
  flags: SourceFlags,
  env: Terminal['env'],
): Promise<Readonly<Record<string, unknown>>> {
  const ca = flags.ca === undefined ? undefined : await read('--ca', flags.ca)
  return {
    mirrors: flags.mirror,
    checksumsUrl: flags.checksumsUrl,
    s3Endpoint: flags.s3Endpoint,
    s3Region: flags.s3Region,
    ca,
    insecureSkipVerify: flags.insecureSkipVerify,
    credentials: (await dockerLogin(source, flags, env)) ?? (await readCredentials(flags, env)),
  }
}

async function readCredentials(
  { user, passwordFile, tokenFile, headersFile }: SourceFlags,
  env: Terminal['env'],
): Promise<Credentials | undefined> {
  // The variables may stand there for other imports.
  const password =
    passwordFile === undefined
      ? user && env['DVCR_SOURCE_PASSWORD']
      : await readLine('--password-file', passwordFile)
  const token =
    tokenFile === undefined
      ? env['DVCR_SOURCE_TOKEN'] || undefined
      : await readLine('--token-file', tokenFile)
  const headers =
    headersFile === undefined
      ? undefined
      : parseHeaders(await read('--headers-file', headersFile), '--headers-file')
  const given = Object.entries({ user, password, token, headers })
  const known = given.filter(([, value]) => value !== undefined && value !== '')
  return known.length === 0 ? undefined : Object.fromEntries(known)
}

async function dockerLogin(
  source: string,
  { dockerLogin: isWanted }: SourceFlags,
  env: Terminal['env'],
): Promise<Credentials | undefined> {
  if (isWanted !== true) return undefined
  if (!source.startsWith(imageScheme)) {
    throw new CodedError('SETTING_INVALID', '--docker-login is for docker:// sources')
  }
  const { loginHost } = parseImageAddress(source)
  const login = await openDockerConfig(env).find(loginHost)
  if (!login) {
    throw new CodedError(
      'SETTING_INVALID',
      `--docker-login: docker keeps no login for ${loginHost}`,
    )
  }
  return login.kind === 'identity'
    ? { token: login.token }
    : { user: login.user, password: login.password }
}

/**
 * One `Name: value` per line; empty lines and those with `#` in front are left out. Throws
 * SETTING_INVALID naming `what`.
 */
export function parseHeaders(text: string, what: string): Record<string, string> {
  const lines = text.split(/\r?\n/).filter((line) => line !== '' && !line.startsWith('#'))
  return Object.fromEntries(
    lines.map((line, index) => {
      const colon = line.indexOf(':')
      if (colon > 0) return [line.slice(0, colon), line.slice(colon + 1).trim()]
      throw new CodedError(
        'SETTING_INVALID',
        `${what}: expected Name: value, header ${index + 1} is not`,
      )
    }),
  )
}

const readLine = async (flag: string, path: string): Promise<string> =>
  (await read(flag, path)).replace(/\r?\n$/, '')

async function read(flag: string, path: string): Promise<string> {
  return readFile(path, 'utf8').catch((error: unknown) => {
    const why = error instanceof Error && 'code' in error ? String(error.code) : String(error)
    throw new CodedError('SETTING_INVALID', `${flag}: cannot read ${path}: ${why}`, {
      cause: error,
    })
  })
}
