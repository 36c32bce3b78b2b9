import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { createTempFolder } from '../test/fixtures/temp-folder.ts'
import { openDockerConfig } from './docker-config.ts'
import { CodedError } from './errors.ts'

/** A credential helper that keeps its logins in files beside it. */
const helperScript = `#!/bin/sh
dir=$(dirname "$0")
case $1 in
  store) cat > "$dir/stored" ;;
  get)
    read -r host
    [ "$host" = broken ] && { echo 'the vault has secret-in-vault' ; exit 1; }
    [ "$host" = token.example ] && { echo '{"ServerURL":"x","Username":"<token>","Secret":"t"}'; exit 0; }
    [ -f "$dir/stored" ] || { echo 'credentials not found in native keychain'; exit 1; }
    cat "$dir/stored" ;;
  erase) rm -f "$dir/stored" ;;
esac
`

async function setUp(content?: object | string) {
  const folder = await createTempFolder()
  const { path } = folder
  const file = join(path, 'docker', 'config.json')
  if (content !== undefined) {
    await mkdir(join(path, 'docker'))
    await writeFile(file, typeof content === 'string' ? content : JSON.stringify(content))
  }
  const helper = join(path, 'docker-credential-vault')
  await writeFile(helper, helperScript)
  await chmod(helper, 0o755)
  const env = { DOCKER_CONFIG: join(path, 'docker'), PATH: `${path}:${process.env['PATH']}` }
  return {
    config: openDockerConfig(env),
    file,
    path,
    json: async (): Promise<unknown> => JSON.parse(await readFile(file, 'utf8')),
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  }
}

async function failure(running: Promise<unknown>): Promise<CodedError> {
  const error = await running.then(
    () => undefined,
    (error: unknown) => error,
  )
  if (error instanceof CodedError) return error
  throw new Error('it did not fail as it should', { cause: error })
}

const auth = (text: string): string => Buffer.from(text).toString('base64')
const alice = { kind: 'password', user: 'alice', password: 'pa:ss' } as const

describe("docker's file of logins", () => {
  it('need not be there', async () => {
    await using setup = await setUp()
    expect(await setup.config.find('a.example')).toBeUndefined()
    expect(await setup.config.remove('a.example')).toBe(false)
  })

  it('is found in the home folder', () => {
    expect(openDockerConfig({ HOME: '/home/x' }).path).toBe('/home/x/.docker/config.json')
    expect(openDockerConfig({ HOME: '/home/x', DOCKER_CONFIG: '/y' }).path).toBe('/y/config.json')
  })

  it('is read as docker and other tools write it', async () => {
    await using setup = await setUp({
      auths: {
        'a.example:5000': { auth: auth('alice:pa:ss') },
        'https://b.example/v1/': { auth: auth('alice:pa:ss\0\0') },
        'c.example': { username: 'alice', password: 'pa:ss' },
        'd.example': { auth: auth('0:'), identitytoken: 'token' },
        'e.example': {},
        'f.example': { auth: 'nonsense' },
      },
    })
    const { find } = setup.config
    for (const host of ['a.example:5000', 'b.example', 'c.example']) {
      expect(await find(host)).toEqual(alice)
    }
    expect(await find('d.example')).toEqual({ kind: 'identity', token: 'token' })
    for (const host of ['a.example', 'e.example', 'f.example', 'x.example']) {
      expect(await find(host)).toBeUndefined()
    }
  })

  it('is written for its owner only, and keeps what else is in it', async () => {
    await using setup = await setUp({ auths: { 'b.example': { auth: 'x' } }, psFormat: 'table' })
    expect(await setup.config.save('a.example', alice)).toBe(setup.file)
    expect((await stat(setup.file)).mode & 0o777).toBe(0o600)
    expect(await setup.json()).toEqual({
      auths: { 'a.example': { auth: auth('alice:pa:ss') }, 'b.example': { auth: 'x' } },
      psFormat: 'table',
    })
    expect(await setup.config.find('a.example')).toEqual(alice)
    expect(await setup.config.remove('a.example')).toBe(true)
    expect(await setup.json()).toEqual({ auths: { 'b.example': { auth: 'x' } }, psFormat: 'table' })
  })

  it('is refused without its contents where it is damaged', async () => {
    for (const content of ['{"auths": "secret-1"', '{"auths": "secret-1"}']) {
      await using setup = await setUp(content)
      const error = await failure(setup.config.find('a.example'))
      expect(error.code).toBe('SETTING_INVALID')
      expect(error.message).toContain(setup.file)
      expect(`${error.message} ${String(error.cause)}`).not.toContain('secret-1')
    }
  })
})

describe('a credential helper', () => {
  it('keeps the logins in place of the file', async () => {
    await using setup = await setUp({ credsStore: 'vault' })
    expect(await setup.config.find('a.example')).toBeUndefined()
    expect(await setup.config.save('a.example', alice)).toBe('docker-credential-vault')
    expect(await setup.config.find('a.example')).toEqual(alice)
    expect(await setup.json()).toEqual({ auths: { 'a.example': {} }, credsStore: 'vault' })
    expect(await setup.config.find('token.example')).toEqual({ kind: 'identity', token: 't' })
    expect(await setup.config.remove('a.example')).toBe(true)
    expect(await setup.config.find('a.example')).toBeUndefined()
    expect(await setup.json()).toEqual({ auths: {}, credsStore: 'vault' })
  })

  it('of one registry is asked for that one only', async () => {
    await using setup = await setUp({
      credHelpers: { 'a.example': 'vault' },
      auths: { 'b.example': { auth: auth('alice:pa:ss') } },
    })
    await setup.config.save('a.example', { user: 'bob', password: 'x' })
    expect(await setup.config.find('a.example')).toMatchObject({ user: 'bob' })
    expect(await setup.config.find('b.example')).toEqual(alice)
    expect(await setup.json()).toMatchObject({ credHelpers: { 'a.example': 'vault' } })
  })

  it('that fails, or is not there, is named, and nothing that it said', async () => {
    for (const [helper, host] of [
      ['vault', 'broken'],
      ['missing', 'a.example'],
      ['../vault', 'a.example'],
    ] as const) {
      await using setup = await setUp({ credsStore: helper })
      const error = await failure(setup.config.find(host))
      expect(error.message).toContain(`docker-credential-${helper}`)
      expect(`${error.message} ${String(error.cause)}`).not.toContain('secret-in-vault')
    }
  })
})
