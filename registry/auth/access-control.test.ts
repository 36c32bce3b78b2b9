import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import {
  passwords,
  robotToken,
  startAccessServer,
  teamRules,
  writeUsers,
} from '../../test/fixtures/access-server.ts'
import { refusalIn } from '../../test/fixtures/refusal.ts'
import { createTempFolder } from '../../test/fixtures/temp-folder.ts'
import { createReadFiles } from './access-file.ts'
import type { AccessControl } from './access-control.ts'
import { readAccessState } from './access-state.ts'
import { anonymous } from './identity.ts'

/** Whether everybody may pull `name` now. */
const isOpen = ({ state }: AccessControl, name: string): boolean =>
  state.rules.allows(anonymous, 'pull', name)

/** The files are looked at often; a busy machine may take its time. */
const soon = { timeout: 10_000 }

const opened = (...repositories: string[]): string =>
  stringify({ rules: [{ who: ['any'], repositories, actions: ['pull'] }] })

/** In one step: a file that is half written is broken too. */
async function replace(path: string, content: string): Promise<void> {
  await writeFile(`${path}.new`, content)
  await rename(`${path}.new`, path)
}

describe('access rules', () => {
  it('are read again when the file changes', async () => {
    await using server = await startAccessServer()
    const { access, folder } = server
    expect(isOpen(access, 'new/x')).toBe(false)
    await writeFile(join(folder, 'access.yaml'), opened('new/**'))
    await expect.poll(() => isOpen(access, 'new/x'), soon).toBe(true)
    expect(isOpen(access, 'public/x')).toBe(false)
    // A mounted secret is a link to a folder that is swapped for another.
    await mkdir(join(folder, 'next'))
    await writeFile(join(folder, 'next', 'access.yaml'), opened('swapped/**'))
    await symlink(join('next', 'access.yaml'), join(folder, 'link'))
    await rename(join(folder, 'link'), join(folder, 'access.yaml'))
    await expect.poll(() => isOpen(access, 'swapped/x'), soon).toBe(true)
  })

  it('follow the files that they name', async () => {
    await using server = await startAccessServer()
    const identify = () =>
      refusalIn(
        server.access.authenticator.identifyBy(
          { kind: 'bearer', token: robotToken },
          { authorization: undefined, address: '127.0.0.1', tls: undefined },
          server.access.state,
        ),
      )
    expect(await identify()).toBeUndefined()
    await writeFile(join(server.folder, 'robots.yaml'), '')
    await expect.poll(identify, soon).toBe('UNAUTHORIZED')
  })

  it('stay where the new ones are broken; that is said once', async () => {
    await using server = await startAccessServer()
    const { access, folder } = server
    const path = join(folder, 'access.yaml')
    const complaints = () => server.logged().split('the old ones stay').length - 1
    await replace(path, 'rules: [')
    await expect.poll(complaints, soon).toBe(1)
    await sleep(300)
    expect(complaints()).toBe(1)
    expect(isOpen(access, 'public/x')).toBe(true)
    expect(await refusalIn(access.reload())).toBe('SETTING_INVALID')
    // Also a file that is only named in the new rules makes them good by coming.
    await replace(path, stringify({ ...teamRules, providers: { htpasswd: { file: 'late' } } }))
    await expect.poll(complaints, soon).toBe(2)
    await rename(join(folder, 'htpasswd'), join(folder, 'late'))
    await expect.poll(() => access.state.file.providers.htpasswd?.file, soon).toBe('late')
    await rm(path)
    await expect.poll(complaints, soon).toBe(3)
    expect(isOpen(access, 'public/x')).toBe(true)
  })

  it('are read from another file where the settings name one', async () => {
    await using server = await startAccessServer()
    const { access, folder } = server
    await writeFile(join(folder, 'other.yaml'), opened('other/**'))
    await access.reload(join(folder, 'other.yaml'))
    expect(isOpen(access, 'other/x')).toBe(true)
    await writeFile(join(folder, 'other.yaml'), opened('again/**'))
    await expect.poll(() => isOpen(access, 'again/x'), soon).toBe(true)
  })
})

describe('an access file', () => {
  async function refusalOfFile(content: object | string): Promise<string> {
    await using folder = await createTempFolder()
    await writeUsers(folder.path)
    const path = join(folder.path, 'access.yaml')
    await writeFile(path, typeof content === 'string' ? content : stringify(content))
    try {
      const state = await readAccessState(path, createReadFiles(path))
      await state[Symbol.asyncDispose]()
      return 'none'
    } catch (error) {
      return error instanceof Error ? error.message.replaceAll(folder.path, '') : String(error)
    }
  }
  const rule = { who: ['any'], repositories: ['**'], actions: ['pull'] }

  it('may hold no rules: then nobody may do anything; an empty file is one being written', async () => {
    expect(await refusalOfFile({ rules: [] })).toBe('none')
    expect(await refusalOfFile('')).toMatch(/access\.yaml: rules: /)
  })

  it('is refused with the place of what is wrong', async () => {
    const wrong: [object | string, RegExp][] = [
      ['rules: [', /access\.yaml: not YAML \(line 1\)/],
      ['- a', /access\.yaml: .*expected object/],
      [{ rules: [], rule: [] }, /Unrecognized key: "rule"/],
      [{ rules: [{ ...rule, actions: ['write'] }] }, /rules\.0\.actions\.0/],
      [{ rules: [{ ...rule, who: ['alice'] }] }, /rules\.0\.who\.0: expected any, auth/],
      [{ rules: [{ ...rule, who: [] }] }, /rules\.0\.who/],
      [{ rules: [{ ...rule, repositories: ['!a/**'] }] }, /rules\.0\.repositories\.0: not a patt/],
      [{ rules: [{ ...rule, repositories: ['Team/**'] }] }, /not a pattern/],
      [{ rules: [], providers: { htpasswd: { file: 'none' } } }, /cannot read \/none: ENOENT/],
      [
        { providers: { oidc: [{ issuer: 'http://far.example', audience: 'a' }] } },
        /providers\.oidc\.0\.issuer: expected an https/,
      ],
      [
        {
          providers: {
            oidc: [{ issuer: 'https://a.example', audience: 'a', algorithms: ['none'] }],
          },
        },
        /providers\.oidc\.0\.algorithms\.0/,
      ],
      [
        {
          rules: [],
          providers: {
            oidc: [
              { issuer: 'https://a.example/one', audience: 'a' },
              { issuer: 'https://a.example/two', audience: 'a' },
            ],
          },
        },
        /the prefixes "a\.example:" and "a\.example:" begin alike/,
      ],
      [
        {
          rules: [],
          providers: {
            oidc: [
              { issuer: 'https://a.example:444', audience: 'a' },
              { issuer: 'https://a.example', audience: 'a' },
            ],
          },
        },
        /the prefixes "a\.example:444:" and "a\.example:" begin alike/,
      ],
    ]
    for (const [content, expected] of wrong) expect(await refusalOfFile(content)).toMatch(expected)
  })

  it('is refused without the secrets that somebody wrote into it', async () => {
    const secret = passwords.alice
    const wrong = [`password: ${secret}`, `providers: { htpasswd: ${secret} }`, `a: [${secret}`]
    for (const content of wrong) {
      const refusal = await refusalOfFile(content)
      expect(refusal).not.toBe('none')
      expect(refusal).not.toContain(secret)
    }
  })
})
