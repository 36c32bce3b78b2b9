import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { createPauses } from './pauses.ts'

describe('pauses of uploads', () => {
  it('end the longest one where too many wait', () => {
    const ended: string[] = []
    const pauses = createPauses({ afterMs: 1e6, most: 2 })
    const start = (id: string): void => pauses.start(id, () => ended.push(id))
    start('a')
    start('b')
    start('a')
    start('c')
    expect(ended).toEqual(['b'])
    pauses.stop('a')
    start('d')
    expect(ended).toEqual(['b'])
  })

  it('end after a while, once, unless the client goes on', async () => {
    const ended: string[] = []
    const pauses = createPauses({ afterMs: 10, most: 2 })
    pauses.start('a', () => ended.push('a'))
    pauses.start('b', () => ended.push('b'))
    pauses.stop('b')
    while (ended.length === 0) await sleep(5)
    await sleep(50)
    expect(ended).toEqual(['a'])
  })
})
