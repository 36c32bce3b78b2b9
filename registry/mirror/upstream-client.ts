import { readFile } from 'node:fs/promises'
import type { Login } from '../../core/docker-config.ts'
import { CodedError } from '../../core/errors.ts'
import { createHttpClient, type HttpClient } from '../../core/http-client.ts'
import type { MirrorSettings } from './settings.ts'
import type { UpstreamNames } from './upstream-name.ts'

/** HTTP to the upstream of a mirror, with the mirror's own login: never with a client's. */
export async function openUpstreamClient(
  { origin }: UpstreamNames,
  settings: MirrorSettings,
  env: Readonly<Record<string, string | undefined>>,
): Promise<HttpClient> {
  const { prefix, ca, insecure } = settings
  const read = (file: string): Promise<string> =>
    readFile(file, 'utf8').catch((error: unknown) => {
      throw invalid(prefix, `cannot read ${file}`, error)
    })

  async function findLogin(): Promise<Login | undefined> {
    const { user, passwordFile, passwordEnv = '' } = settings
    if (user === undefined) return undefined
    const password = passwordFile === undefined ? env[passwordEnv] : await read(passwordFile)
    if (password === undefined) throw invalid(prefix, `${passwordEnv} is not set`)
    return { kind: 'password', user, password: password.trimEnd() }
  }

  // A mistake shows at the start, not with the first pull.
  await findLogin()
  const authorities = ca === undefined ? undefined : await read(ca)
  return createHttpClient(origin, { findLogin, tls: { ca: authorities, insecure } })
}

function invalid(prefix: string, why: string, cause?: unknown): CodedError {
  return new CodedError('SETTING_INVALID', `mirrors: the one of ${prefix}/: ${why}`, { cause })
}
