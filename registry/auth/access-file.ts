import { readFile, stat } from 'node:fs/promises'
import { dirname, isAbsolute, join } from 'node:path'
import { parse as parseYaml, YAMLParseError } from 'yaml'
import { z } from 'zod'
import { actions } from '../../core/access.ts'
import { CodedError } from '../../core/errors.ts'
import { certificateNames } from './identity.ts'
import { assertSafeUrl, jwtAlgorithms } from './oidc.ts'

const path = z.string().min(1)
const kinds = ['user', 'robot', 'serviceaccount', 'certificate']
const named = new RegExp(`^(?:${[...kinds, 'group'].join('|')}):.+$`, 's')

const who = z.array(
  z
    .string()
    .refine(
      (text) => ['any', 'authenticated', 'anonymous'].includes(text) || named.test(text),
      `expected any, authenticated, anonymous, group:NAME or one of ${kinds.join(', ')} with :NAME`,
    ),
)

const pattern = z
  .string()
  .max(255)
  .regex(
    /^[a-z0-9._/*?{},[\]-]+$/,
    'not a pattern of repository names: a-z 0-9 . _ - / * ? { } [ ]',
  )

const safeUrl = z.string().refine((text) => {
  try {
    assertSafeUrl(text)
    return true
  } catch {
    return false
  }
}, 'expected an https:// address')

const oidc = z
  .strictObject({
    issuer: safeUrl,
    audience: z.string().min(1),
    /** Before names and groups; the issuer's host unless said. */
    prefix: z.string().optional(),
    jwksUrl: safeUrl.optional(),
    jwksFile: path.optional(),
    caFile: path.optional(),
    algorithms: z.array(z.enum(jwtAlgorithms)).min(1).default(['RS256', 'ES256', 'EdDSA']),
    clockSkewSeconds: z.number().min(0).max(600).default(60),
    name: z.string().min(1).default('sub'),
    groups: z.string().min(1).default('groups'),
  })
  .refine(({ jwksUrl, jwksFile }) => !jwksUrl || !jwksFile, 'jwksUrl or jwksFile, not both')

const inPod = '/var/run/secrets/kubernetes.io/serviceaccount'

const kubernetes = z.strictObject({
  audience: z.string().min(1).default('dvcr'),
  api: safeUrl.default('https://kubernetes.default.svc'),
  caFile: path.default(`${inPod}/ca.crt`),
  tokenFile: path.default(`${inPod}/token`),
})

const limit = z.strictObject({
  requestsPerSecond: z.number().positive().default(1000),
  burst: z.int().positive().default(5000),
  concurrent: z.int().positive().default(1000),
})
const defaultLimit = limit.parse({})

const accessFileSchema = z.strictObject({
  providers: z
    .strictObject({
      htpasswd: z.strictObject({ file: path }).optional(),
      robots: z.strictObject({ file: path }).optional(),
      oidc: z.array(oidc).default([]),
      kubernetes: kubernetes.optional(),
      certificates: z.strictObject({ name: z.enum(certificateNames).default('cn') }).optional(),
    })
    .prefault({}),
  groups: z.record(z.string().regex(/^[A-Za-z0-9._-]+$/, 'not a name'), who).default({}),
  // Always there: a file that is being written is empty for a moment.
  rules: z.array(
    z.strictObject({
      who: who.min(1),
      repositories: z.array(pattern).min(1),
      actions: z.array(z.enum(actions)).min(1),
    }),
  ),
  /** Who may read `/metrics` beside those who administer everything. */
  metrics: who.default([]),
  tokens: z
    .strictObject({
      seconds: z.int().min(60).max(3600).default(300),
      /** The server's address as clients see it, where a proxy hides it. */
      url: z.url({ protocol: /^https?$/ }).optional(),
    })
    .prefault({}),
  /** Whose `X-Forwarded-For` is believed. */
  trustedProxies: z.array(z.union([z.ipv4(), z.ipv6(), z.cidrv4(), z.cidrv6()])).default([]),
  limits: z
    .strictObject({ identity: limit.default(defaultLimit), address: limit.default(defaultLimit) })
    .prefault({}),
})

/** Who may do what, as the file says; `docs/access.md`. Holds no secret, only where they are. */
export type AccessFile = z.output<typeof accessFileSchema>
export type Limit = z.output<typeof limit>

export interface ReadFiles {
  /** A file's text; a relative path is taken from the access file's folder. SETTING_INVALID. */
  text(path: string): Promise<string>
  /** True where a file that was read, or could not be, is another one now. */
  changed(): Promise<boolean>
}

/** Reads files and remembers which, so that a change of any of them can be seen. */
export function createReadFiles(accessFile: string): ReadFiles {
  const versions = new Map<string, string>()
  return {
    async text(path) {
      const full = isAbsolute(path) ? path : join(dirname(accessFile), path)
      // Before it is read: what changes meanwhile is then seen later.
      versions.set(full, await versionOf(full))
      return readFile(full, 'utf8').catch((error: unknown) => {
        const why = error instanceof Error && 'code' in error ? String(error.code) : 'unknown'
        throw new CodedError('SETTING_INVALID', `cannot read ${full}: ${why}`, { cause: error })
      })
    },
    async changed() {
      for (const [path, version] of versions) {
        if ((await versionOf(path)) !== version) return true
      }
      return false
    },
  }
}

/** Differs for a file that was written again, or that another one was put in place of. */
async function versionOf(path: string): Promise<string> {
  try {
    const { mtimeMs, size, ino } = await stat(path)
    return `${mtimeMs} ${size} ${ino}`
  } catch {
    // Whoever reads it says why it cannot be read.
    return 'none'
  }
}

/** Throws SETTING_INVALID naming every field that is wrong. */
export function parseAccessFile(text: string, file: string): AccessFile {
  const result = accessFileSchema.safeParse(parseYamlFile(text, file))
  if (!result.success) throw schemaMismatch(result.error, file)
  return result.data
}

/** YAML or JSON; an empty file is an empty mapping. Throws SETTING_INVALID without quoting the file. */
export function parseYamlFile(text: string, file: string): unknown {
  try {
    return parseYaml(text) ?? {}
  } catch (error) {
    const line = error instanceof YAMLParseError ? error.linePos?.[0].line : undefined
    const where = line === undefined ? '' : ` (line ${line})`
    throw new CodedError('SETTING_INVALID', `${file}: not YAML${where}`)
  }
}

export function schemaMismatch(error: z.ZodError, file: string): CodedError {
  const reasons = error.issues.map(({ path, message }) => {
    const where = path.map(String).join('.')
    return where === '' ? message : `${where}: ${message}`
  })
  return new CodedError('SETTING_INVALID', `${file}: ${reasons.join('; ')}`)
}
