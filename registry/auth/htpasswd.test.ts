import { hash } from '@node-rs/bcrypt'
import { beforeAll, describe, expect, it } from 'vitest'
import { CodedError } from '../../core/errors.ts'
import { refusalIn } from '../../test/fixtures/refusal.ts'
import { createHtpasswdProvider, parseHtpasswd } from './htpasswd.ts'

let users: Map<string, string>
const basic = (user: string, password: string) => ({ kind: 'basic', user, password }) as const

beforeAll(async () => {
  const lines = [
    '# comment',
    '',
    `alice:${await hash('right', { cost: 4 })}`,
    `bob:${(await hash('ß'.repeat(36), { cost: 4 })).replace('$2b$', '$2y$')}  `,
  ]
  users = parseHtpasswd(lines.join('\r\n'), 'htpasswd')
})

describe('parseHtpasswd', () => {
  it('reads names and bcrypt hashes only', () => {
    expect([...users.keys()]).toEqual(['alice', 'bob'])
  })

  it('names the line that it refuses, and not what stands in it', () => {
    const refusal = (line: string): string => {
      try {
        parseHtpasswd(`\n${line}\n`, '/etc/htpasswd')
        return 'none'
      } catch (error) {
        return error instanceof CodedError ? error.message : String(error)
      }
    }
    for (const line of ['plain:password', 'md5:$apr1$aaaaaaaa$bbbbbbbbbbbbbbbbbbbbbb', 'x-y-z']) {
      expect(refusal(line)).toContain('/etc/htpasswd, line 2')
      expect(refusal(line)).not.toContain(line)
    }
  })
})

describe('the htpasswd provider', () => {
  it('knows a user by the password, again and again', async () => {
    const provider = createHtpasswdProvider(users)
    const alice = { kind: 'user', name: 'alice', groups: [] }
    expect(await provider(basic('alice', 'right'))).toEqual(alice)
    expect(await provider(basic('alice', 'right'))).toEqual(alice)
    expect((await provider(basic('bob', 'ß'.repeat(36))))?.name).toBe('bob')
  })

  it('knows nobody by anything else', async () => {
    const provider = createHtpasswdProvider(users)
    for (const [user, password] of [
      ['alice', 'wrong'],
      ['alice', ''],
      ['alice', 'right\0'],
      ['ALICE', 'right'],
      ['carol', 'right'],
      // bcrypt itself would only look at the first 72 bytes.
      ['bob', `${'ß'.repeat(36)}x`],
    ] as const) {
      expect([user, await provider(basic(user, password))]).toEqual([user, undefined])
    }
    expect(await provider({ kind: 'bearer', token: 'right' })).toBeUndefined()
    expect(await provider({ kind: 'none' })).toBeUndefined()
  })

  it('takes as long for a name that does not exist as for one that does', async () => {
    const provider = createHtpasswdProvider(new Map([['alice', await hash('right', { cost: 7 })]]))
    const medianMs = async (user: string): Promise<number> => {
      const all: number[] = []
      for (let attempt = 0; attempt < 15; attempt++) {
        const startedMs = performance.now()
        await provider(basic(user, `wrong-${attempt}`))
        all.push(performance.now() - startedMs)
      }
      return all.toSorted((a, b) => a - b)[7] ?? 0
    }
    // Each step of the cost is twice the time.
    const factor = (await medianMs('mallory')) / (await medianMs('alice'))
    expect(Math.abs(Math.log2(factor))).toBeLessThan(2)
  })

  it('remembers a right password only for the user it is of', async () => {
    const provider = createHtpasswdProvider(users)
    await provider(basic('alice', 'right'))
    expect(await provider(basic('bob', 'right'))).toBeUndefined()
  })

  it('refuses to line up more passwords than it can check soon', async () => {
    const provider = createHtpasswdProvider(users)
    const tries = Array.from({ length: 150 }, (_, index) =>
      refusalIn(provider(basic('alice', `wrong-${index}`))),
    )
    const refusals = (await Promise.all(tries)).filter((code) => code === 'TOOMANYREQUESTS')
    expect(refusals).toHaveLength(150 - 102)
    expect((await provider(basic('alice', 'right')))?.name).toBe('alice')
  })
})
