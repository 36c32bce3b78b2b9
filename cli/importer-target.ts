import { readFile } from 'node:fs/promises'
import { createHttpClient } from '../core/http-client.ts'
import { createRegistryClient, type RegistryClientDeps } from '../core/registry-client.ts'
import type { Registry } from '../core/registry.ts'
import type { ImporterSettings } from './importer-settings.ts'
import { readTargetLogin, unreadable } from './mounted-secrets.ts'
import type { Terminal } from './terminal.ts'

/**
 * The registry that a pod imports into. Its certificate is always verified, and its login read again
 * whenever the registry asks for one. Throws SETTING_INVALID for files that cannot be read.
 */
export async function openImporterTarget(
  { target, targetCa, targetCredentials }: ImporterSettings,
  { env, ...deps }: Omit<RegistryClientDeps, 'http'> & Pick<Terminal, 'env'>,
): Promise<{ readonly registry: Registry } & AsyncDisposable> {
  const ca =
    targetCa === undefined
      ? undefined
      : await readFile(targetCa, 'utf8').catch((error: unknown) => {
          throw unreadable(targetCa, error)
        })
  const findLogin = async () =>
    targetCredentials === undefined
      ? undefined
      : readTargetLogin(targetCredentials, target.host, env)
  // Files that are missing are found before anything is transferred.
  await findLogin()
  const http = createHttpClient(target, { findLogin, tls: { ca } })
  const registry = createRegistryClient({ http, ...deps })
  return { registry, [Symbol.asyncDispose]: () => http[Symbol.asyncDispose]() }
}
