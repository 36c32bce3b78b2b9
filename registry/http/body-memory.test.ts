import { describe, expect, it } from 'vitest'
import { createBodyMemory } from './body-memory.ts'

describe('the memory of bodies', () => {
  it('is one for all, and refuses what would be too much', () => {
    const memory = createBodyMemory(10)
    const first = memory.hold()
    first.take(6)
    using second = memory.hold()
    second.take(4)
    expect(() => second.take(1)).toThrow(expect.objectContaining({ code: 'TOOMANYREQUESTS' }))
    first[Symbol.dispose]()
    first[Symbol.dispose]()
    second.take(6)
    expect(() => second.take(1)).toThrow(expect.objectContaining({ code: 'TOOMANYREQUESTS' }))
  })
})
