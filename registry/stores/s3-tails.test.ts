import { describe, expect, it } from 'vitest'
import type { S3Record } from './s3-checkpoint.ts'
import { createTails } from './s3-tails.ts'

const nothing: S3Record = { segments: [], tails: [], old: [], hasTails: false }
const named = (name: string) => ({ name, bytes: 10 })

describe('the tails of an upload', () => {
  it('are garbage at once where no checkpoint names them', () => {
    const tails = createTails(nothing)
    const tail = tails.add(100, 10)
    expect(tail.name).toMatch(/^tail-100-[0-9a-f]{8}$/)
    expect(tails.bytes).toBe(10)
    tails.consumed(tails.takeAll())
    expect(tails.garbage()).toEqual([tail.name])
    expect(tails.garbage()).toEqual([])
    expect(tails.everUsed).toBe(true)
  })

  it('are kept for a checkpoint until a later one is made and something is recorded', () => {
    const tails = createTails(nothing)
    const { name } = tails.add(0, 10)
    tails.checkpoint()
    tails.consumed(tails.takeAll())
    expect([tails.garbage(), tails.superseded, tails.old]).toEqual([[], [], [name]])
    tails.checkpoint()
    expect([tails.garbage(), tails.superseded, tails.old]).toEqual([[], [name], [name]])
    tails.removed([name])
    expect([tails.superseded, tails.old]).toEqual([[], []])
  })

  it('of a checkpoint come back with it', () => {
    const tails = createTails({ ...nothing, tails: [named('a')], old: ['z'], hasTails: true })
    const later = tails.add(10, 10)
    tails.consumed(tails.takeAll())
    tails.rollback([named('a')])
    expect(tails.chain).toEqual([named('a')])
    expect(tails.garbage()).toEqual([later.name])
    expect(tails.superseded).toEqual(['z'])
    expect(tails.old).toEqual(['z'])
    expect(tails.unnamed()).toEqual([])
  })

  it('that are not stored yet are given up with the rest', () => {
    const tails = createTails({ ...nothing, tails: [named('a')], hasTails: true })
    const { name } = tails.add(10, 10)
    expect(tails.takeAll()).toHaveLength(2)
    expect(tails.unnamed()).toEqual([name])
    tails.rollback([named('a')])
    expect(tails.garbage()).toEqual([name])
  })
})
