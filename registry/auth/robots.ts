import { z } from 'zod'
import { CodedError } from '../../core/errors.ts'
import { parseYamlFile, schemaMismatch } from './access-file.ts'
import { sha256Hex, tokenOf, type Identity, type Provider } from './identity.ts'

/** A hash without a salt protects only what cannot be guessed. */
const shortestToken = 20

const hash = z
  .string()
  .toLowerCase()
  .regex(/^[0-9a-f]{64}$/, 'expected the 64 hex digits of a sha256')

const robotsSchema = z.record(
  z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$/, 'not a name'),
  z.strictObject({
    /** Several while a token is being replaced. */
    sha256: z.union([hash, z.array(hash).min(1)]),
    expires: z.iso.datetime({ offset: true }).optional(),
  }),
)

/**
 * Robots by the sha256 of their token, from YAML or JSON: `name: { sha256: …, expires?: … }`.
 * Throws SETTING_INVALID naming the robot, never a value.
 */
export function parseRobots(text: string, path: string): Map<string, Identity> {
  const result = robotsSchema.safeParse(parseYamlFile(text, path))
  if (!result.success) throw schemaMismatch(result.error, path)
  const robots = new Map<string, Identity>()
  for (const [name, { sha256, expires }] of Object.entries(result.data)) {
    for (const hash of [sha256].flat()) {
      if (robots.has(hash)) {
        throw new CodedError('SETTING_INVALID', `${path}: ${name}: another robot has that token`)
      }
      const until = expires === undefined ? {} : { expiresAt: Date.parse(expires) }
      robots.set(hash, { kind: 'robot', name, groups: [], ...until })
    }
  }
  return robots
}

/** Robots by their token, as Bearer or as the password of any name. */
export function createRobotProvider(robots: ReadonlyMap<string, Identity>): Provider {
  return async (credentials) => {
    const token = tokenOf(credentials)
    // Found by its hash: how long that takes says nothing about the token.
    if (token === undefined || token.length < shortestToken) return undefined
    return robots.get(sha256Hex(token))
  }
}
