import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { createPieceBudget, type PieceBudget } from './s3-budget.ts'

const { signal } = new AbortController()

/** A writer that keeps what it takes until it is asked to give it back. */
function createHolder(budget: PieceBudget) {
  const held: Buffer[] = []
  let sent: Disposable | undefined
  const membership = budget.join({
    get idlePieces() {
      return held.length
    },
    giveBack() {
      const lease = budget.lend(held.splice(0))
      sent = { [Symbol.dispose]: () => lease.release() }
    },
  })
  return {
    held,
    async take(): Promise<void> {
      held.push(await budget.take(signal))
    },
    /** What it was asked to give back has reached the storage. */
    arrive(): void {
      sent?.[Symbol.dispose]()
      sent = undefined
    },
    get isAsked() {
      return sent !== undefined
    },
    [Symbol.dispose]() {
      membership[Symbol.dispose]()
      budget.free(held.splice(0))
    },
  }
}

describe('the memory of uploads', () => {
  it('is handed out up to its size, then in the order in which it was asked for', async () => {
    const budget = createPieceBudget({ bytes: 3 * 1024 + 1, pieceBytes: 1024 })
    const pieces = [await budget.take(signal), await budget.take(signal)]
    expect(budget.isTight).toBe(false)
    pieces.push(await budget.take(signal))
    expect(budget.isTight).toBe(true)
    const served: number[] = []
    const waiting = [0, 1, 2].map(async (at) => {
      await budget.take(signal)
      served.push(at)
    })
    for (const piece of pieces) {
      await turn()
      budget.free([piece])
    }
    await Promise.all(waiting)
    expect(served).toEqual([0, 1, 2])
    expect(pieces.every(({ length }) => length === 1024)).toBe(true)
  })

  it('is asked back from whoever has most of it idle, as long as more is needed', async () => {
    const budget = createPieceBudget({ bytes: 6, pieceBytes: 1 })
    using small = createHolder(budget)
    using large = createHolder(budget)
    using other = createHolder(budget)
    await small.take()
    for (const holder of [large, large, large, other, other]) await holder.take()
    using needy = createHolder(budget)
    const taking = Promise.all([needy.take(), needy.take(), needy.take(), needy.take()])
    await turn()
    // Three of four are on their way from the largest, then one more is asked for.
    expect([small.isAsked, large.isAsked, other.isAsked]).toEqual([false, true, true])
    large.arrive()
    other.arrive()
    await taking
    expect(needy.held).toHaveLength(4)
    expect(small.held).toHaveLength(1)
  })

  it('is not waited for by who has left', async () => {
    const budget = createPieceBudget({ bytes: 1, pieceBytes: 1 })
    const piece = await budget.take(signal)
    const leaving = new AbortController()
    const gone = budget.take(leaving.signal)
    const staying = budget.take(signal)
    leaving.abort(new Error('left'))
    await expect(gone).rejects.toThrow('left')
    budget.free([piece])
    expect(await staying).toBe(piece)
  })
})
