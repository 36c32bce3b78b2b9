import { mkdir, rename, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { toCodedError } from '../core/errors.ts'
import { createTempFolder } from '../test/fixtures/temp-folder.ts'
import { readSourceSecrets, readTargetLogin } from './mounted-secrets.ts'

const host = 'registry.example:5000'
const dockerFile = (password: string): string =>
  JSON.stringify({ auths: { [host]: { username: 'me', password } } })

const said = (promise: Promise<unknown>): Promise<string> =>
  promise.then(JSON.stringify, (error: unknown) => {
    const { code, message } = toCodedError(error)
    return `${code} ${message}`
  })

test('a secret that is replaced as Kubernetes does it is read anew', async () => {
  await using folder = await createTempFolder()
  const at = (name: string): string => join(folder.path, name)
  for (const version of ['one', 'two']) {
    await mkdir(at(version))
    await writeFile(join(at(version), '.dockerconfigjson'), dockerFile(version))
    await symlink(version, at('data.new'))
    await rename(at('data.new'), at('..data'))
    if (version === 'one') await symlink('..data/.dockerconfigjson', at('.dockerconfigjson'))
    for (const path of [folder.path, at('.dockerconfigjson')]) {
      const login = await readTargetLogin(path, host, {})
      expect(login).toEqual({ kind: 'password', user: 'me', password: version })
    }
  }
})

test('a login that is not there is said with its place, without what is there', async () => {
  await using folder = await createTempFolder()
  const { path } = folder
  const login = (): Promise<string> => said(readTargetLogin(path, host, {}))
  expect(await login()).toContain(`${path} has neither .dockerconfigjson nor config.json`)
  await writeFile(join(path, 'password'), 'secret')
  expect(await login()).toContain('nor the files user and password')
  await writeFile(join(path, 'user'), 'me\n')
  expect(await login()).toBe('{"kind":"password","user":"me","password":"secret"}')
  await writeFile(join(path, 'config.json'), dockerFile('secret').replace(host, 'other.example'))
  expect(await login()).toBe(`SETTING_INVALID ${path}/config.json has no login for ${host}`)
  await writeFile(join(path, 'config.json'), 'secret')
  expect(await login()).toMatch(/^SETTING_INVALID [^"]*not docker's JSON$/)
})

test('the secrets of a source are those of its files that are there', async () => {
  await using folder = await createTempFolder()
  const { path } = folder
  const read = () => readSourceSecrets(path, {})
  expect(await read()).toMatchObject({ credentials: undefined, ca: undefined })
  expect(await (await read()).findLogin(host)).toBeUndefined()
  const files = { user: 'me\n', password: 'p\r\n', token: '', headers: '# a\nX-Key: v: w\n' }
  for (const [name, text] of Object.entries(files)) await writeFile(join(path, name), text)
  await writeFile(join(path, 'ca.crt'), 'PEM\n')
  await writeFile(join(path, 'config.json'), dockerFile('secret'))
  const credentials = { user: 'me', password: 'p', headers: { 'X-Key': 'v: w' } }
  expect(await read()).toMatchObject({ credentials, ca: 'PEM\n' })
  expect(await (await read()).findLogin(host)).toMatchObject({ user: 'me' })
  await writeFile(join(path, 'headers'), 'secret')
  expect(await said(read())).toBe(
    `SETTING_INVALID ${path}/headers: expected Name: value, header 1 is not`,
  )
  expect(await said(readSourceSecrets(join(path, 'gone'), {}))).toContain('ENOENT')
})
