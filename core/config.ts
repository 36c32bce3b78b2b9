import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import { CodedError } from './errors.ts'

/** One setting as help texts and `docs/settings.md` show it. */
export interface SettingFacts {
  readonly key: string
  /** `--kebab-case` */
  readonly flag: string
  /** `DVCR_SNAKE_CASE`, or with another prefix. */
  readonly env: string
  /** `structure`: a list or mapping, which only the file can hold: it has no flag. */
  readonly type: 'string' | 'boolean' | 'number' | 'structure'
  readonly defaultValue: string
  readonly description: string
}

export interface SettingSources {
  /** Path of a YAML file; undefined: none. */
  readonly file: string | undefined
  readonly env: Readonly<Record<string, string | undefined>>
  /** By key; undefined values do not count. */
  readonly flags: Readonly<Record<string, unknown>>
}

/** Settings that only the environment has, under a prefix of their own. */
export interface EnvironmentSource {
  readonly env: SettingSources['env']
  readonly prefix: string
}

const property = z.looseObject({
  type: z
    .enum(['string', 'boolean', 'integer', 'number', 'array', 'object'])
    .default('string')
    .transform((type) => {
      if (type === 'integer') return 'number'
      return type === 'array' || type === 'object' ? 'structure' : type
    }),
  default: z.unknown().optional(),
  description: z.string().default(''),
})

/** What the schema says of each of its settings, in its order; `prefix` is that of `env`. */
export function describeSettings(schema: z.ZodObject, prefix = 'DVCR_'): SettingFacts[] {
  const { properties = {} } = z.toJSONSchema(schema, { io: 'input' })
  return Object.entries(properties).map(([key, value]) => {
    const { type, default: byDefault, description } = property.parse(value)
    const kebab = key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
    return {
      key,
      flag: `--${kebab}`,
      env: `${prefix}${kebab.replaceAll('-', '_').toUpperCase()}`,
      type,
      defaultValue: byDefault === undefined ? '' : JSON.stringify(byDefault).replace(/^"|"$/g, ''),
      description,
    }
  })
}

/**
 * The settings of one part: defaults < YAML file < environment < flags. Throws SETTING_INVALID
 * naming the setting in every spelling; an unknown key in the file is an error too.
 */
export async function loadSettings<Schema extends z.ZodObject>(
  schema: Schema,
  { file, env, flags }: SettingSources,
): Promise<z.output<Schema>> {
  const facts = describeSettings(schema)
  const merged: Record<string, unknown> = file === undefined ? {} : await readSettings(file)
  Object.assign(merged, environmentOf(facts, env))
  for (const setting of facts) {
    const flag = setting.type === 'structure' ? undefined : flags[setting.key]
    if (flag !== undefined)
      merged[setting.key] = typeof flag === 'string' ? typed(setting, flag) : flag
  }
  return judge(schema, merged, (path) => {
    const setting = facts.find(({ key }) => key === path[0])
    if (setting?.type === 'structure') return path.join('.')
    return setting && `${setting.key} (${setting.flag}, ${setting.env})`
  })
}

/** The settings of one part: defaults < environment. Throws SETTING_INVALID naming the variable. */
export function readEnvironment<Schema extends z.ZodObject>(
  schema: Schema,
  { env, prefix }: EnvironmentSource,
): z.output<Schema> {
  const facts = describeSettings(schema, prefix)
  return judge(schema, environmentOf(facts, env), ([key]) => {
    return facts.find((setting) => setting.key === key)?.env
  })
}

function environmentOf(
  facts: readonly SettingFacts[],
  env: SettingSources['env'],
): Record<string, unknown> {
  const known = facts.flatMap((setting) => {
    const text = setting.type === 'structure' ? undefined : env[setting.env]
    return text === undefined || text === '' ? [] : [[setting.key, typed(setting, text)]]
  })
  return Object.fromEntries(known)
}

/** `nameOf`: how people write the setting at that path. */
function judge<Schema extends z.ZodObject>(
  schema: Schema,
  values: Readonly<Record<string, unknown>>,
  nameOf: (path: readonly string[]) => string | undefined,
): z.output<Schema> {
  const result = schema.safeParse(values)
  if (result.success) return result.data
  const reasons = result.error.issues.map(({ path, message, ...issue }) => {
    const name = nameOf(path.map(String))
    if (name !== undefined) return `${name}: ${message}`
    return 'keys' in issue ? `unknown setting ${issue.keys.join(', ')}` : message
  })
  throw new CodedError('SETTING_INVALID', `settings refused: ${reasons.join('; ')}`)
}

async function readSettings(file: string): Promise<Record<string, unknown>> {
  const { parse: parseYaml } = await import('yaml')
  try {
    const parsed: unknown = parseYaml(await readFile(file, 'utf8')) ?? {}
    return z.record(z.string(), z.unknown()).parse(parsed)
  } catch (error) {
    const why = error instanceof z.ZodError ? 'it must be a YAML mapping' : String(error)
    throw new CodedError('SETTING_INVALID', `cannot read settings from ${file}: ${why}`, {
      cause: error,
    })
  }
}

/** Text from the environment or a flag in the setting's own type; zod then judges the value. */
function typed(setting: SettingFacts, text: string): unknown {
  if (setting.type === 'boolean') {
    if (/^(?:true|1|yes|on)$/i.test(text)) return true
    return /^(?:false|0|no|off)$/i.test(text) ? false : text
  }
  return setting.type === 'number' && text.trim() !== '' ? Number(text) : text
}
