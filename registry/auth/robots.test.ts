import { describe, expect, it } from 'vitest'
import { CodedError } from '../../core/errors.ts'
import { sha256Hex } from './identity.ts'
import { createRobotProvider, parseRobots } from './robots.ts'

const [one, two] = ['first-token-0123456789', 'second-token-012345678']

function refusal(text: string): string {
  try {
    parseRobots(text, 'robots.yaml')
    return 'none'
  } catch (error) {
    return error instanceof CodedError ? error.message : String(error)
  }
}

describe('robots', () => {
  it('are known by their token, as Bearer or as the password of any name', async () => {
    const text = JSON.stringify({
      ci: { sha256: [sha256Hex(one), sha256Hex(two)] },
      'team-a/deploy': { sha256: sha256Hex('third-token-0123456789').toUpperCase() },
    })
    const provider = createRobotProvider(parseRobots(text, 'robots.yaml'))
    const ci = { kind: 'robot', name: 'ci', groups: [] }
    expect(await provider({ kind: 'bearer', token: one })).toEqual(ci)
    expect(await provider({ kind: 'basic', user: 'any', password: two })).toEqual(ci)
    const third = await provider({ kind: 'bearer', token: 'third-token-0123456789' })
    expect(third?.name).toBe('team-a/deploy')
    for (const token of ['', 'first-token-012345678', sha256Hex(one)]) {
      expect(await provider({ kind: 'bearer', token })).toBeUndefined()
    }
  })

  it('are not known by a token that could be guessed', async () => {
    const short = 'nineteen-characters'
    const provider = createRobotProvider(parseRobots(`ci: { sha256: ${sha256Hex(short)} }`, 'r'))
    expect(await provider({ kind: 'bearer', token: short })).toBeUndefined()
  })

  it('say when they end', async () => {
    const text = `ci:\n  sha256: ${sha256Hex(one)}\n  expires: 2030-01-01T00:00:00Z\n`
    const provider = createRobotProvider(parseRobots(text, 'robots.yaml'))
    const found = await provider({ kind: 'bearer', token: one })
    expect(found?.expiresAt).toBe(Date.parse('2030-01-01T00:00:00Z'))
  })

  it('are refused with the place, never with a value', () => {
    const secret = 'a-token-where-its-hash-belongs'
    expect(refusal(`ci: { sha256: ${secret} }`)).toMatch(/robots\.yaml: ci/)
    expect(refusal(`ci: { sha256: ${secret} }`)).not.toContain(secret)
    expect(refusal(`ci: [${secret}`)).toMatch(/not YAML \(line 1\)$/)
    const twice = `{ a: { sha256: ${sha256Hex(one)} }, b: { sha256: ${sha256Hex(one)} } }`
    expect(refusal(twice)).toBe('robots.yaml: b: another robot has that token')
    expect(refusal('')).toBe('none')
  })
})
