import { CodedError } from '../core/errors.ts'
import { createHashPool } from '../core/hash-pool.ts'
import { createLog } from '../core/log.ts'
import type { Admin } from '../registry/admin/admin.ts'
import { openLocalStore } from './local-store.ts'
import { createAdminClient } from './registry-client.ts'
import { openServer, type TargetFlags } from './target.ts'
import type { Terminal } from './terminal.ts'

export interface RegistryFlags extends TargetFlags {
  readonly json?: boolean
  /** With `data`: the settings of its server, for its rules and its bucket. */
  readonly config?: string
}

/** A store to administer: a server's, or with `--data` one that no server has. */
export interface RegistryTarget extends AsyncDisposable {
  readonly admin: Admin
}

/** Throws SETTING_INVALID, STORE_LOCKED, LAYOUT_UNKNOWN. */
export async function openRegistry(
  { server, data, config }: RegistryFlags,
  { env }: Terminal,
): Promise<RegistryTarget> {
  await using owned = new AsyncDisposableStack()
  if (data === undefined) {
    const admin = createAdminClient(owned.use(openServer(server, env)))
    const stack = owned.move()
    return { admin, [Symbol.asyncDispose]: () => stack.disposeAsync() }
  }
  const hashPool = owned.use(createHashPool())
  const log = createLog('warn')
  const store = owned.use(await openLocalStore({ data, config }, { env, hashPool, log }))
  const stack = owned.move()
  return { admin: store.admin, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

/** What a command ends with that has printed what is wrong. */
export function damageFound(message: string): CodedError {
  return new CodedError('DAMAGE_FOUND', message)
}
