import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { z } from 'zod'
import { createTempFolder, type TempFolder } from '../test/fixtures/temp-folder.ts'
import { describeSettings, loadSettings } from './config.ts'
import { CodedError } from './errors.ts'

const schema = z.strictObject({
  listen: z.string().min(3).default('a:1').describe('Where'),
  insecureNoAuth: z.boolean().default(false).describe('Open'),
  maxImports: z.int().min(1).max(64).default(2).describe('How many'),
  share: z.number().default(0.5),
  level: z.enum(['error', 'info']).default('info'),
  needed: z.string().optional(),
})
const defaults = {
  listen: 'a:1',
  insecureNoAuth: false,
  maxImports: 2,
  share: 0.5,
  level: 'info',
}

let folder: TempFolder
beforeEach(async () => {
  folder = await createTempFolder()
})
afterEach(() => folder[Symbol.asyncDispose]())

async function yaml(text: string): Promise<string> {
  const path = join(folder.path, 'settings.yaml')
  await writeFile(path, text)
  return path
}

const none = { file: undefined, env: {}, flags: {} }

/** Why the settings are refused. */
async function refusal(sources: Partial<Parameters<typeof loadSettings>[1]>): Promise<string> {
  const loading = loadSettings(schema, { ...none, ...sources })
  const error: unknown = await loading.catch((reason: unknown) => reason)
  if (error instanceof CodedError && error.code === 'SETTING_INVALID') return error.message
  throw new Error('the settings were not refused', { cause: error })
}

test('the schema tells every spelling, type and default', () => {
  const facts = describeSettings(schema)
  expect(
    facts.map(({ key, flag, env, type, defaultValue }) => [key, flag, env, type, defaultValue]),
  ).toEqual([
    ['listen', '--listen', 'DVCR_LISTEN', 'string', 'a:1'],
    ['insecureNoAuth', '--insecure-no-auth', 'DVCR_INSECURE_NO_AUTH', 'boolean', 'false'],
    ['maxImports', '--max-imports', 'DVCR_MAX_IMPORTS', 'number', '2'],
    ['share', '--share', 'DVCR_SHARE', 'number', '0.5'],
    ['level', '--level', 'DVCR_LEVEL', 'string', 'info'],
    ['needed', '--needed', 'DVCR_NEEDED', 'string', ''],
  ])
  expect(facts[0]?.description).toBe('Where')
})

test('without anything the defaults hold', async () => {
  expect(await loadSettings(schema, none)).toEqual(defaults)
})

test('a flag wins over the environment, that over the file, that over the default', async () => {
  const file = await yaml('listen: file\nmaxImports: 3\nshare: 3\nlevel: error\n')
  const env = { DVCR_MAX_IMPORTS: '4', DVCR_SHARE: '4', DVCR_OTHER: 'x', OTHER: 'x' }
  const flags = { share: '5', listen: undefined }
  expect(await loadSettings(schema, { file, env, flags })).toEqual({
    ...defaults,
    listen: 'file',
    maxImports: 3 + 1,
    share: 5,
    level: 'error',
  })
})

test('an empty variable does not count', async () => {
  const env = { DVCR_LISTEN: '', DVCR_INSECURE_NO_AUTH: '' }
  expect(await loadSettings(schema, { ...none, env })).toEqual(defaults)
})

test('yes and no have their usual spellings', async () => {
  const load = async (text: string): Promise<boolean> => {
    const env = { DVCR_INSECURE_NO_AUTH: text }
    return (await loadSettings(schema, { ...none, env })).insecureNoAuth
  }
  expect(await Promise.all(['true', 'TRUE', '1', 'yes', 'On'].map(load))).not.toContain(false)
  expect(await Promise.all(['false', 'False', '0', 'no', 'off'].map(load))).not.toContain(true)
  expect(
    (await loadSettings(schema, { ...none, flags: { insecureNoAuth: true } })).insecureNoAuth,
  ).toBe(true)
})

test.each([
  [{ env: { DVCR_MAX_IMPORTS: 'many' } }, 'maxImports (--max-imports, DVCR_MAX_IMPORTS):'],
  [{ env: { DVCR_MAX_IMPORTS: '2.5' } }, 'maxImports (--max-imports, DVCR_MAX_IMPORTS):'],
  [{ env: { DVCR_MAX_IMPORTS: ' ' } }, 'maxImports (--max-imports, DVCR_MAX_IMPORTS):'],
  [{ flags: { maxImports: '65' } }, 'maxImports (--max-imports, DVCR_MAX_IMPORTS):'],
  [{ flags: { maxImports: '' } }, 'maxImports (--max-imports, DVCR_MAX_IMPORTS):'],
  [{ flags: { insecureNoAuth: 'maybe' } }, 'insecureNoAuth (--insecure-no-auth, DVCR_INSECURE'],
  [{ flags: { level: 'loud' } }, 'level (--level, DVCR_LEVEL):'],
  [{ flags: { listen: 'a' } }, 'listen (--listen, DVCR_LISTEN):'],
])('%j is refused by name', async (sources, text) => {
  expect(await refusal(sources)).toContain(text)
})

test('every wrong setting is told at once', async () => {
  const text = await refusal({ env: { DVCR_LEVEL: 'loud', DVCR_MAX_IMPORTS: '0' } })
  expect(text).toContain('DVCR_LEVEL')
  expect(text).toContain('DVCR_MAX_IMPORTS')
})

test.each([
  ['lissten: a', 'unknown setting lissten'],
  ['a: 1\nb: 2', 'unknown setting a, b'],
  ['listen: 5000', 'listen (--listen, DVCR_LISTEN)'],
  ['maxImports: "3"', 'maxImports (--max-imports, DVCR_MAX_IMPORTS)'],
  ['- a\n- b', 'it must be a YAML mapping'],
  ['just text', 'it must be a YAML mapping'],
  ['a: [', 'cannot read settings from'],
  ['listen: a:1\nlisten: b:1', 'cannot read settings from'],
])('a file with %j is refused', async (text, why) => {
  expect(await refusal({ file: await yaml(text) })).toContain(why)
})

test('a file that is missing is told by its path', async () => {
  expect(await refusal({ file: '/no/such.yaml' })).toMatch(/\/no\/such\.yaml.*ENOENT/)
})

test('an empty file says nothing', async () => {
  const file = await yaml('# only a comment\n')
  expect(await loadSettings(schema, { ...none, file })).toEqual(defaults)
})

test('a list is only taken from the file, and its fields are told by their place', async () => {
  const withList = schema.extend({ list: z.array(z.strictObject({ a: z.int() })).default([]) })
  const load = (sources: Partial<Parameters<typeof loadSettings>[1]>) =>
    loadSettings(withList, { ...none, ...sources })
  expect(describeSettings(withList).at(-1)).toMatchObject({ key: 'list', type: 'structure' })
  const file = await yaml('list: [{ a: 1 }]')
  const env = { DVCR_LIST: '[]' }
  expect(await load({ file, env })).toMatchObject({ list: [{ a: 1 }] })
  await expect(load({ file: await yaml('list: [{ a: x }]') })).rejects.toThrow('list.0.a: ')
})
