import { describe, expect, it } from 'vitest'
import { readEnvironment } from '../core/config.ts'
import { toCodedError } from '../core/errors.ts'
import { importerPrefix, importerSettings, type ImporterSettings } from './importer-settings.ts'

const least = {
  DVCR_IMPORTER_SOURCE: 'https://images.example/a.qcow2',
  DVCR_IMPORTER_TARGET: 'https://registry.example:5000',
  DVCR_IMPORTER_IMAGE: 'ns/name:1',
}
const read = (env: Readonly<Record<string, string>>): ImporterSettings =>
  readEnvironment(importerSettings, { env: { ...least, ...env }, prefix: importerPrefix })

function refusal(env: Readonly<Record<string, string>>): string {
  try {
    return JSON.stringify(read(env))
  } catch (error) {
    const { code, message } = toCodedError(error)
    return `${code} ${message}`
  }
}

describe('settings of dvcr importer', () => {
  it('need a source, a target and an image', () => {
    expect(read({})).toMatchObject({
      source: least.DVCR_IMPORTER_SOURCE,
      mirrors: [],
      image: { name: 'ns/name', tag: '1' },
      replace: false,
      importPolicy: 'restricted',
      maxVirtualSize: 16 * 2 ** 40,
      listen: { host: '0.0.0.0', port: 8080 },
      terminationLog: '/dev/termination-log',
    })
    expect(read({}).target.href).toBe('https://registry.example:5000/')
    for (const name of Object.keys(least)) {
      expect(refusal({ [name]: '' })).toContain(`SETTING_INVALID settings refused: ${name}: `)
    }
  })

  it('are not those of other commands', () => {
    const others = { DVCR_MAX_VIRTUAL_SIZE: '1Gi', DVCR_IMPORT_POLICY: 'open' }
    expect(read(others)).toEqual(read({}))
    // What Kubernetes says of a service of that name.
    expect(read({ DVCR_IMPORTER_PORT: 'tcp://10.0.0.1:80' })).toEqual(read({}))
  })

  it('hold several mirrors with spaces between', () => {
    const { mirrors } = read({ DVCR_IMPORTER_MIRRORS: ' https://a/b,c\nhttps://d/e ' })
    expect(mirrors).toEqual(['https://a/b,c', 'https://d/e'])
  })

  it.each(['http://127.0.0.1:5000', 'http://localhost:5000', 'http://[::1]:5000'])(
    'take %s, which is this machine, without TLS',
    (target) => {
      expect(read({ DVCR_IMPORTER_TARGET: target }).target.origin).toBe(target)
    },
  )

  it.each([
    'registry.example:5000',
    'http://registry.example',
    'https://user:password@registry.example',
    'https://registry.example/v2/',
    'https://registry.example/?a',
    'docker://registry.example',
  ])('refuse the target %s', (target) => {
    const said = refusal({ DVCR_IMPORTER_TARGET: target })
    expect(said).toContain('DVCR_IMPORTER_TARGET: expected https://host:port')
    expect(said).not.toContain('password')
  })

  it.each([
    ['IMAGE', `a@sha256:${'0'.repeat(64)}`],
    ['IMAGE', 'A:1'],
    ['STORE', 'raw'],
    ['REPLACE', 'perhaps'],
    ['IMPORT_POLICY', 'closed'],
    ['MAX_VIRTUAL_SIZE', 'large'],
    ['IMPORT_RETRY_SECONDS', '-1'],
    ['LISTEN', '8080'],
  ])('refuse %s=%s', (name, value) => {
    expect(refusal({ [`DVCR_IMPORTER_${name}`]: value })).toContain(`DVCR_IMPORTER_${name}: `)
  })
})
