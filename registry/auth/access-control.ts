import type { Log } from '../../core/log.ts'
import type { ObjectStore } from '../../core/object-store.ts'
import { createReadFiles } from './access-file.ts'
import { readAccessState, type AccessState } from './access-state.ts'
import { createAuthenticator, type Authenticator } from './authenticate.ts'
import { createTokenKeys } from './token-keys.ts'
import { createTokens, type Tokens } from './tokens.ts'

/** Authentication and authorisation of one server. */
export interface AccessControl extends AsyncDisposable {
  /** What the files said when they were last read well. */
  readonly state: AccessState
  readonly authenticator: Authenticator
  readonly tokens: Tokens
  /**
   * Reads the access file (another one where `path` says so) and all that it names. Throws
   * SETTING_INVALID where it is broken; then the old rules stay.
   */
  reload(path?: string): Promise<void>
}

export interface AccessControlOptions {
  /** The access file. `docs/access.md` */
  readonly path: string
  /** Where the keys of our tokens are. */
  readonly objects: ObjectStore
  readonly log: Log
  /** How often the files are looked at; five seconds unless said. */
  readonly checkMs?: number
}

/**
 * Reads the access file and watches it and what it names: secrets that are mounted are replaced
 * without a word. Throws SETTING_INVALID.
 */
export async function openAccessControl(options: AccessControlOptions): Promise<AccessControl> {
  const { objects, log, checkMs = 5000 } = options
  let { path } = options
  let files = createReadFiles(path)
  let state = await readAccessState(path, files)
  let working = Promise.resolve()

  async function read(from: string): Promise<void> {
    // Also where it fails: a broken file is complained of once, and looked at again.
    files = createReadFiles(from)
    const next = await readAccessState(from, files)
    const last = state
    path = from
    state = next
    // Requests at work may still be asking the old providers.
    void close(last)
    log.info({ file: path, rules: state.file.rules.length }, 'access rules reloaded')
  }

  async function close(old: AccessState): Promise<void> {
    try {
      await old[Symbol.asyncDispose]()
    } catch (error) {
      log.warn({ err: error }, 'cannot close what asked for credentials')
    }
  }

  function reload(from = path): Promise<void> {
    const next = working.then(() => read(from))
    working = next.catch(() => {})
    return next
  }

  async function look(): Promise<void> {
    if (!(await files.changed())) return
    await reload().catch((error: unknown) =>
      log.error({ err: error, file: path }, 'the new access rules are broken; the old ones stay'),
    )
  }

  const watching = setInterval(() => void look(), checkMs)
  watching.unref()
  const tokens = createTokens({
    keys: createTokenKeys(objects),
    seconds: () => state.file.tokens.seconds,
  })
  return {
    get state() {
      return state
    },
    authenticator: createAuthenticator(tokens),
    tokens,
    reload,
    async [Symbol.asyncDispose]() {
      clearInterval(watching)
      await working
      await state[Symbol.asyncDispose]()
    },
  }
}
