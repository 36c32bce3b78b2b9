import { openDockerConfig } from '../core/docker-config.ts'
import { CodedError } from '../core/errors.ts'
import { createHttpClient } from '../core/http-client.ts'
import { isLoopback } from '../core/loopback.ts'
import { ask, readSecret } from './prompt.ts'
import type { CommandContext } from './terminal.ts'

export interface LoginFlags {
  readonly username?: string
  readonly passwordStdin?: boolean
}

/**
 * `dvcr login`: keeps a login where docker, crane and skopeo look for theirs, once the registry
 * has accepted it. Throws UNAUTHORIZED where it does not.
 */
export async function loginCommand(
  registry: string,
  flags: LoginFlags,
  { terminal, signal }: CommandContext,
): Promise<void> {
  const base = registryUrl(registry)
  const user = flags.username ?? (await ask(terminal, 'Username: ', { signal }))
  const password = flags.passwordStdin
    ? await readSecret(terminal)
    : await ask(terminal, 'Password: ', { hidden: true, signal })
  if (user === '' || user.includes(':') || password === '') {
    throw new CodedError(
      'SETTING_INVALID',
      'a login is a name without a colon and a password or token',
    )
  }
  const login = { kind: 'password', user, password } as const
  await using http = createHttpClient(base, { findLogin: () => Promise.resolve(login) })
  const response = await http.send('/v2/', { method: 'GET', signal, accept: [200] })
  await response.body.dump()
  const kept = await openDockerConfig(terminal.env).save(base.host, login)
  terminal.stderr.write(`logged in to ${base.host} as ${user}; kept in ${kept}\n`)
}

/** `dvcr logout` */
export async function logoutCommand(registry: string, { terminal }: CommandContext): Promise<void> {
  const { host } = registryUrl(registry)
  const was = await openDockerConfig(terminal.env).remove(host)
  terminal.stderr.write(was ? `logged out of ${host}\n` : `there was no login for ${host}\n`)
}

/** `host[:port]` is https, on this machine http; or an address. Throws SETTING_INVALID. */
function registryUrl(text: string): URL {
  const hasScheme = /^https?:\/\//i.test(text)
  const url = URL.canParse(`https://${text}`) ? new URL(`https://${text}`) : undefined
  const guessed = url && isLoopback(url.hostname.replace(/^\[|\]$/g, '')) ? 'http' : 'https'
  const full = hasScheme ? text : `${guessed}://${text}`
  const plain = URL.canParse(full) ? new URL(full) : undefined
  if (plain && plain.pathname === '/' && plain.username === '' && plain.host !== '') return plain
  throw new CodedError(
    'SETTING_INVALID',
    `not a registry: ${JSON.stringify(text.slice(0, 200))}; write registry.example.org or 127.0.0.1:5000`,
  )
}
