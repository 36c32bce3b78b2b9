import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { describeSettings } from '../core/config.ts'
import { smallDisk } from '../test/fixtures/queue-setup.ts'
import { captureTerminal } from '../test/fixtures/captured-terminal.ts'
import { createTempFolder, type TempFolder } from '../test/fixtures/temp-folder.ts'
import { runCli } from './program.ts'
import { serveSettings } from './serve-settings.ts'

let folder: TempFolder
beforeEach(async () => {
  folder = await createTempFolder()
})
afterEach(() => folder[Symbol.asyncDispose]())

/** One command line, as a shell gives it. */
async function dvcr(args: readonly string[], options: Parameters<typeof captureTerminal>[0] = {}) {
  const terminal = captureTerminal(options)
  const exitCode = await runCli(['node', 'dvcr', ...args], terminal)
  return { exitCode, ...terminal.output }
}

describe('help', () => {
  test.each(['serve', 'import', 'imports', 'images', 'inspect', 'rm', 'tag'])(
    'of %s is written to standard output',
    async (command) => {
      const { exitCode, out, err } = await dvcr([command, '--help'])
      expect({ exitCode, err }).toEqual({ exitCode: 0, err: '' })
      expect(out).toContain(`Usage: dvcr ${command}`)
    },
  )

  test('lists every command', async () => {
    const { exitCode, out } = await dvcr(['--help'])
    expect(exitCode).toBe(0)
    for (const command of [
      'serve',
      'import ',
      'imports',
      'images',
      'inspect',
      'rm',
      'tag',
      'registry',
    ]) {
      expect(out).toContain(`\n  ${command}`)
    }
  })

  test('of serve names every setting by flag, environment and default', async () => {
    const { out } = await dvcr(['serve', '--help'])
    const text = out.replaceAll(/\s+/g, ' ')
    for (const { flag, env, type, defaultValue, description } of describeSettings(serveSettings)) {
      // Lists are in the file only.
      if (type === 'structure') continue
      expect(text).toContain(flag)
      expect(text).toContain(`env ${env}`)
      expect(text).toContain(defaultValue)
      expect(text).toContain(description)
    }
  })
})

describe('wrong usage', () => {
  test.each([
    [[]],
    [['fly']],
    [['images', '--loud']],
    [['import', 'http://a/b']],
    [['import', 'http://a/b', 'debian', '--store', 'upside-down']],
    [['tag', 'debian']],
    [['serve', '--max-imports']],
    [['serve', 'too', 'much']],
  ])('dvcr %j ends with 2 and says so', async (args) => {
    const { exitCode, out, err } = await dvcr(args)
    expect({ exitCode, out }).toEqual({ exitCode: 2, out: '' })
    expect(err).not.toBe('')
  })

  test.each([
    [['images', 'UPPER'], 'NAME_INVALID'],
    [['inspect', 'debian:-'], 'TAG_INVALID'],
    [['rm', 'debian@sha256:1'], 'DIGEST_INVALID'],
    [['import', 'ftp://a/b', 'debian'], 'SOURCE_INVALID'],
    [['import', 'http://a/b', 'debian', '--md5', 'zz'], 'REQUEST_INVALID: --md5'],
    [['import', 'http://a/b', `debian@sha256:${'0'.repeat(64)}`], 'REQUEST_INVALID'],
    [['images', '--server', 'localhost'], 'SETTING_INVALID'],
  ])('%j is told by its code', async (args, code) => {
    const { exitCode, err } = await dvcr(args)
    expect(exitCode).toBe(2)
    expect(err).toMatch(new RegExp(`^dvcr: ${code}`))
  })

  test('a server that is not there is worth another try', async () => {
    const { exitCode, err } = await dvcr(['images'], { env: { DVCR_SERVER: 'http://127.0.0.1:1' } })
    expect(exitCode).toBe(3)
    expect(err).toContain('dvcr: TARGET_UNAVAILABLE')
    expect(err.trim().split('\n')).toHaveLength(1)
  })
})

describe('serve', () => {
  test.each([
    [['--listen', '0.0.0.0:0'], {}],
    [['--listen', '[::]:0'], {}],
    [['--listen', '10.1.2.3:0'], {}],
    [[], { DVCR_LISTEN: '0.0.0.0:0' }],
  ])('with %j and %j is refused without --insecure-no-auth', async (args, env) => {
    const data = join(folder.path, 'data')
    const { exitCode, err } = await dvcr(['serve', '--data', data, ...args], { env })
    expect(exitCode).toBe(2)
    expect(err).toContain('SETTING_INVALID: refusing to serve')
    expect(err).toContain('--insecure-no-auth (DVCR_INSECURE_NO_AUTH)')
    expect(await readdir(folder.path)).toEqual([])
  })

  test('names a wrong setting wherever it came from', async () => {
    const config = join(folder.path, 'dvcr.yaml')
    await writeFile(config, 'maxImports: 0\n')
    const refused = await Promise.all([
      dvcr(['serve', '--max-imports', '0']),
      dvcr(['serve'], { env: { DVCR_MAX_IMPORTS: '0' } }),
      dvcr(['serve', '--config', config]),
      dvcr(['serve'], { env: { DVCR_CONFIG: config } }),
    ])
    for (const { exitCode, err } of refused) {
      expect(exitCode).toBe(2)
      expect(err).toContain('maxImports (--max-imports, DVCR_MAX_IMPORTS)')
    }
  })

  test('an address that this machine does not have is told', async () => {
    const data = join(folder.path, 'data')
    const address = ['--listen', '192.0.2.1:5000', '--insecure-no-auth']
    const args = ['serve', '--data', data, '--log-level', 'error', ...address]
    const { exitCode, err } = await dvcr(args)
    expect(exitCode).toBe(2)
    expect(err).toContain('cannot listen on 192.0.2.1:5000: this machine has no such address')
  })
})

describe('a folder without a server', () => {
  const image = async (...args: string[]) => dvcr([...args, '--data', join(folder.path, 'data')])

  test('takes a file, and lists, shows, tags and removes the image', async () => {
    const path = join(folder.path, 'disk.raw')
    await writeFile(path, smallDisk)
    const imported = await image('import', path, 'debian:12', '--json')
    expect(imported).toMatchObject({ exitCode: 0 })
    expect(imported.out.split('\n')).toHaveLength(2)
    expect(JSON.parse(imported.out)).toMatchObject({ name: 'debian', tag: '12', format: 'raw' })

    expect((await image('images')).out).toMatch(/^IMAGE +FORMAT .*\ndebian:12 +raw +256\.0 KiB/)
    const inspected = (await image('inspect', 'debian:12')).out
    expect(inspected).toContain('virtual size     256.0 KiB (262144 bytes)')
    expect(inspected).not.toMatch(/undefined|NaN/)

    expect((await image('tag', 'debian:12', 'stable')).exitCode).toBe(0)
    expect((await image('rm', 'debian:12')).out).toBe('removed debian:12\n')
    expect((await image('images')).out).toContain('debian:stable')
    expect(await image('inspect', 'debian:12')).toMatchObject({ exitCode: 1 })
    expect(await image('import', path, 'debian:stable')).toMatchObject({
      exitCode: 1,
      err: expect.stringContaining('TAG_EXISTS'),
    })
  })

  test('takes standard input', async () => {
    const args = ['import', '-', 'debian', '--data', join(folder.path, 'data')]
    const { exitCode, out } = await dvcr(args, { input: smallDisk })
    expect(exitCode).toBe(0)
    expect(out).toMatch(/^debian:latest\n  format +raw, stored as qcow2\n/)
  })

  test('says what is wrong with a file on one line', async () => {
    const missing = await image('import', join(folder.path, 'none'), 'debian')
    expect(missing).toMatchObject({ exitCode: 1, out: '' })
    expect(missing.err).toMatch(/dvcr: SOURCE_NOT_FOUND: .*it does not exist\n$/)
  })
})
