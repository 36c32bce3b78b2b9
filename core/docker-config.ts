import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { z } from 'zod'
import { CodedError, hasErrno } from './errors.ts'

/** Who we are to one registry: a name with its secret, or a token that stands for both. */
export type Login =
  | { readonly kind: 'password'; readonly user: string; readonly password: string }
  | { readonly kind: 'identity'; readonly token: string }

/** Docker's file of logins, which other registry clients share. */
export interface DockerConfig {
  readonly path: string
  /** The login for `host[:port]`; `undefined` where there is none. */
  find(host: string): Promise<Login | undefined>
  /** Answers where it is kept now: the file, or the helper's name. */
  save(host: string, login: { readonly user: string; readonly password: string }): Promise<string>
  /** False where there was none. */
  remove(host: string): Promise<boolean>
}

const entrySchema = z.looseObject({
  auth: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  identitytoken: z.string().optional(),
})
const fileSchema = z.looseObject({
  auths: z.record(z.string(), entrySchema).default({}),
  credsStore: z.string().optional(),
  credHelpers: z.record(z.string(), z.string()).default({}),
})
type File = z.output<typeof fileSchema>

const helperAnswer = z.looseObject({ Username: z.string(), Secret: z.string() })
/** What helpers store in place of a name beside an identity token. */
const tokenUser = '<token>'

/** At `path`: unless given `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`. */
export function openDockerConfig(env: Env, path = usualPath(env)): DockerConfig {
  async function read(): Promise<File> {
    const bytes = await readFile(path, 'utf8').catch((error: unknown) => {
      if (hasErrno(error, 'ENOENT')) return '{}'
      const why = error instanceof Error && 'code' in error ? String(error.code) : 'unknown'
      throw unreadable(path, why)
    })
    try {
      return fileSchema.parse(JSON.parse(bytes))
    } catch {
      // The parser's own message may quote a secret of the file.
      throw unreadable(path, "it is not docker's JSON")
    }
  }

  async function write(file: File): Promise<void> {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    const { auths, credHelpers, ...rest } = file
    const kept = { auths, ...rest, ...(Object.keys(credHelpers).length > 0 ? { credHelpers } : {}) }
    const temporary = `${path}.${randomUUID()}`
    await writeFile(temporary, `${JSON.stringify(kept, undefined, '\t')}\n`, { mode: 0o600 })
    await rename(temporary, path)
  }

  const helperOf = ({ credHelpers, credsStore }: File, host: string): string | undefined =>
    credHelpers[host] ?? (credsStore === '' ? undefined : credsStore)

  return {
    path,
    async find(host) {
      const file = await read()
      const helper = helperOf(file, host)
      if (helper !== undefined) return askHelper(helper, host, env)
      const key = Object.keys(file.auths).find((one) => hostOf(one) === host)
      return key === undefined ? undefined : loginOf(file.auths[key] ?? {})
    },
    async save(host, { user, password }) {
      const file = await read()
      const helper = helperOf(file, host)
      if (helper !== undefined) {
        const given = { ServerURL: host, Username: user, Secret: password }
        await runHelper(helper, 'store', JSON.stringify(given), env)
        // An empty entry is how docker remembers that there is a login.
        await write({ ...file, auths: { ...file.auths, [host]: {} } })
        return `docker-credential-${helper}`
      }
      const auth = Buffer.from(`${user}:${password}`).toString('base64')
      await write({ ...file, auths: { ...file.auths, [host]: { auth } } })
      return path
    },
    async remove(host) {
      const file = await read()
      const helper = helperOf(file, host)
      const kept = Object.entries(file.auths).filter(([key]) => hostOf(key) !== host)
      const had = kept.length < Object.keys(file.auths).length
      const known = helper !== undefined && (await askHelper(helper, host, env)) !== undefined
      if (helper !== undefined && known) await runHelper(helper, 'erase', host, env)
      if (had) await write({ ...file, auths: Object.fromEntries(kept) })
      return had || known
    },
  }
}

function usualPath(env: Env): string {
  return join(env['DOCKER_CONFIG'] || join(env['HOME'] || homedir(), '.docker'), 'config.json')
}

/** Old entries are written as URLs: `https://host/v1/`. */
function hostOf(key: string): string {
  return key.replace(/^https?:\/\//, '').replace(/\/.*$/, '')
}

function loginOf({ auth, username, password, identitytoken }: z.output<typeof entrySchema>) {
  if (identitytoken) return { kind: 'identity', token: identitytoken } as const
  if (username && password) return { kind: 'password', user: username, password } as const
  const decoded = Buffer.from(auth ?? '', 'base64').toString()
  const colon = decoded.indexOf(':')
  if (colon < 1) return undefined
  // Some tools pad the secret with zero bytes.
  const secret = decoded.slice(colon + 1).replace(/\0+$/, '')
  return { kind: 'password', user: decoded.slice(0, colon), password: secret } as const
}

type Env = Readonly<Record<string, string | undefined>>

async function askHelper(helper: string, host: string, env: Env): Promise<Login | undefined> {
  const { code, output } = await startHelper(helper, 'get', host, env)
  if (code !== 0) {
    if (/not found/i.test(output)) return undefined
    throw helperFailed(helper, 'get', host)
  }
  const answer = helperAnswer.safeParse(jsonOf(output))
  if (!answer.success) throw helperFailed(helper, 'get', host)
  const { Username: user, Secret: secret } = answer.data
  return user === tokenUser
    ? { kind: 'identity', token: secret }
    : { kind: 'password', user, password: secret }
}

async function runHelper(helper: string, verb: string, input: string, env: Env): Promise<void> {
  const { code } = await startHelper(helper, verb, input, env)
  if (code !== 0) throw helperFailed(helper, verb, verb === 'erase' ? input : 'the login')
}

/** @see docker/docker-credential-helpers: the verb is the argument, the request on stdin. */
async function startHelper(helper: string, verb: string, input: string, env: Env) {
  const program = `docker-credential-${helper}`
  if (!/^[\w.-]+$/.test(helper)) throw helperFailed(helper, verb, 'a name like that')
  const child = spawn(program, [verb], { env: { ...env }, stdio: ['pipe', 'pipe', 'ignore'] })
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', (cause) => reject(helperFailed(helper, verb, 'it', cause)))
    child.once('close', resolve)
  })
  // One that ends without reading says by its exit code what was wrong.
  child.stdin.on('error', () => {})
  child.stdin.end(input)
  const [code, output] = await Promise.all([ended, text(child.stdout)])
  return { code, output }
}

/** Never the helper's own output: it may repeat what it was given. */
function helperFailed(helper: string, verb: string, what: string, cause?: unknown): CodedError {
  return new CodedError(
    'SETTING_INVALID',
    `the credential helper docker-credential-${helper} failed to ${verb} ${what}; is it installed and unlocked?`,
    { cause },
  )
}

function unreadable(path: string, why: string): CodedError {
  return new CodedError('SETTING_INVALID', `cannot read the logins in ${path}: ${why}`)
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // The schema refuses it.
    return undefined
  }
}
