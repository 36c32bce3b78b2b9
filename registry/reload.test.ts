import { describe, expect, it } from 'vitest'
import { CodedError } from '../core/errors.ts'
import { pino } from 'pino'
import { createReload } from './reload.ts'

interface Settings {
  readonly level: string
  readonly port: number
  readonly list: readonly string[]
}

const first: Settings = { level: 'info', port: 1, list: ['a'] }

function setUp(next: () => Settings) {
  const lines: unknown[] = []
  const log = pino({ base: null }, { write: (line: string) => void lines.push(JSON.parse(line)) })
  const reload = createReload<Settings>(first, { read: async () => next(), log })
  return { reload, lines }
}

describe('a reload', () => {
  it('applies what somebody applies, and names what else has changed', async () => {
    const { reload, lines } = setUp(() => ({ level: 'debug', port: 2, list: ['a'] }))
    const applied: string[] = []
    reload.on(['level'], ({ level }) => applied.push(level))
    await reload.run()
    expect(applied).toEqual(['debug'])
    expect(lines).toMatchObject([
      { level: 30, msg: 'settings reloaded' },
      { level: 40, settings: ['port'] },
    ])
  })

  it('keeps everything as it is where the settings are refused', async () => {
    const { reload, lines } = setUp(() => {
      throw new CodedError('SETTING_INVALID', 'no')
    })
    const applied: string[] = []
    reload.on(['level'], ({ level }) => applied.push(level))
    await reload.run()
    expect(applied).toEqual([])
    expect(lines).toMatchObject([{ level: 50, msg: expect.stringContaining('the old ones stay') }])
  })

  it('goes on with the others where one cannot be applied', async () => {
    const { reload, lines } = setUp(() => ({ ...first, level: 'debug' }))
    const applied: string[] = []
    reload.on(['list'], () => {
      throw new CodedError('SETTING_INVALID', 'the file is gone')
    })
    reload.on(['level'], ({ level }) => applied.push(level))
    await reload.run()
    expect(applied).toEqual(['debug'])
    expect(lines).toMatchObject([
      { level: 50, settings: ['list'], msg: expect.stringContaining('the file is gone') },
      { level: 30 },
    ])
  })

  it('is not run twice at a time', async () => {
    const { reload } = setUp(() => first)
    const steps: string[] = []
    reload.on([], async () => {
      steps.push('start')
      await new Promise((later) => setTimeout(later, 5))
      steps.push('end')
    })
    await Promise.all([reload.run(), reload.run()])
    expect(steps).toEqual(['start', 'end', 'start', 'end'])
  })
})
