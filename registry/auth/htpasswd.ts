import { verify } from '@node-rs/bcrypt'
import { LRUCache } from 'lru-cache'
import { CodedError } from '../../core/errors.ts'
import { createGate } from '../../core/gate.ts'
import { secretName, type Provider } from './identity.ts'

/** A password that was right counts for so long; a changed file forgets it at once. */
const rememberedMs = 5 * 60_000
const mostRemembered = 10_000
/** Each takes a thread of Node's pool for tens of milliseconds; files are read there too. */
const mostChecks = { atOnce: 2, waiting: 100 }

/** Of a password that nobody knows. */
const nobody = '$2b$10$kYzuUCjrsQcD8tkOZBeTT.XAjZh2NJGQVZbiYwHFYXnVR7vSoZ2u2'

/**
 * Names and bcrypt hashes of a file as `htpasswd -B` writes it. Throws SETTING_INVALID naming the
 * line that is not one, never its text.
 */
export function parseHtpasswd(text: string, path: string): Map<string, string> {
  const users = new Map<string, string>()
  for (const [index, line] of text.split('\n').entries()) {
    const entry = line.trim()
    if (entry === '' || entry.startsWith('#')) continue
    const [, user, hash] = /^([^:]{1,255}):(\$2[aby]\$\d\d\$[./A-Za-z0-9]{53})$/.exec(entry) ?? []
    if (user === undefined || hash === undefined) {
      throw new CodedError(
        'SETTING_INVALID',
        `${path}, line ${index + 1}: not a name with a bcrypt hash; add users with: htpasswd -B ${path} NAME`,
      )
    }
    users.set(user, hash)
  }
  return users
}

/**
 * Users by name and password (Basic). A name that is not in the file is judged as slowly as one
 * that is. Throws TOOMANYREQUESTS where too many passwords wait to be checked.
 */
export function createHtpasswdProvider(users: ReadonlyMap<string, string>): Provider {
  const right = new LRUCache<string, true>({ max: mostRemembered, ttl: rememberedMs })
  const checks = createGate({ ...mostChecks, what: 'passwords are being checked' })
  const hashes = [...users.values()]

  /** As costly as a user's, the same one each time: how long it takes does not tell names. */
  function hashOfNobody(user: string): string {
    const at = Buffer.from(secretName(user)).readUInt32LE() % Math.max(1, hashes.length)
    return hashes[at] ?? nobody
  }

  return async (credentials) => {
    if (credentials.kind !== 'basic') return undefined
    const { user, password } = credentials
    const key = secretName(user, password)
    const hash = users.get(user)
    // bcrypt reads 72 bytes and stops at a zero byte: what is not read is no password.
    const isWhole = Buffer.byteLength(password) <= 72 && !password.includes('\0')
    if (!right.has(key)) {
      const matches = await checks(() =>
        verify(isWhole ? password : '', hash ?? hashOfNobody(user)),
      )
      if (!matches || !isWhole || hash === undefined) return undefined
      right.set(key, true)
    }
    return { kind: 'user', name: user, groups: [] }
  }
}
