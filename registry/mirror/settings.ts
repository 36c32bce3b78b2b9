import { z } from 'zod'
import { parseName } from '../../core/reference.ts'
import { parseDuration } from '../../core/sizes.ts'

const duration = z.string().transform((text, context) => {
  try {
    return parseDuration(text)
  } catch {
    context.addIssue({ code: 'custom', message: `not a duration: ${text}; write 10m or 30d` })
    return z.NEVER
  }
})

const prefix = z.string().transform((text, context) => {
  try {
    return parseName(text)
  } catch {
    context.addIssue({ code: 'custom', message: `not the begin of repository names: ${text}` })
    return z.NEVER
  }
})

/** One pull-through mirror: repositories below `prefix` are those of another registry. */
export const mirrorSettings = z
  .strictObject({
    prefix: prefix.describe('Repositories `<prefix>/…` are the mirror'),
    upstream: z
      .url({ protocol: /^https?$/, hostname: /./ })
      .refine((text) => !/[@?#]/.test(text), 'only https://host[:port][/path]')
      .describe('`https://host[:port][/path]`; a path goes before every name'),
    ttl: duration.prefault('10m').describe('How long a tag is served without asking again'),
    unusedFor: duration.prefault('30d').describe('Manifests that nobody pulls for so long go'),
    user: z.string().min(1).optional().describe('Name at the upstream'),
    passwordFile: z.string().min(1).optional().describe('File that holds the password'),
    passwordEnv: z.string().min(1).optional().describe('Environment variable that holds it'),
    ca: z.string().min(1).optional().describe('PEM file of authorities to trust besides'),
    insecure: z.boolean().default(false).describe('Accept any certificate'),
  })
  .refine(
    ({ user, passwordFile, passwordEnv }) =>
      [passwordFile, passwordEnv].filter((source) => source !== undefined).length ===
      (user === undefined ? 0 : 1),
    'user needs one of passwordFile and passwordEnv, and these need user',
  )
export type MirrorSettings = z.output<typeof mirrorSettings>

/** All mirrors; no prefix is given twice. */
export const mirrorsSettings = z
  .array(mirrorSettings)
  .refine(
    (mirrors) => new Set(mirrors.map(({ prefix }) => prefix)).size === mirrors.length,
    'two mirrors have the same prefix',
  )
