import { describe, expect, it } from 'vitest'
import { createMemoryObjects } from '../test/model/memory-objects.ts'
import { createQuotas, type Quotas } from './quota.ts'

const rules = [
  { prefix: 'team/', limitBytes: 100 },
  { prefix: '', limitBytes: 150 },
]
const session = (id: string, repo = 'team/a') => ({ id, repo })

async function* linksOf(...links: { readonly name: string; readonly size: number }[]) {
  yield* links
}

describe('quotas', () => {
  it('refuse what would exceed the prefix or the total, with both figures', async () => {
    const quotas = createQuotas(createMemoryObjects(), rules)
    await quotas.reserve(session('1'), 80)
    await expect(quotas.reserve(session('2'), 30)).rejects.toMatchObject({
      code: 'QUOTA_EXCEEDED',
      detail: { prefix: 'team/', usedBytes: 80, limitBytes: 100 },
    })
    await quotas.reserve(session('3', 'other'), 70)
    await expect(quotas.reserve(session('4', 'other'), 1)).rejects.toMatchObject({
      detail: { prefix: '', usedBytes: 150, limitBytes: 150 },
    })
  })

  it('give back what a refused or ended session held, in every account', async () => {
    const quotas = createQuotas(createMemoryObjects(), rules)
    await quotas.reserve(session('1', 'other'), 100)
    await expect(quotas.reserve(session('2'), 60)).rejects.toMatchObject({ detail: { prefix: '' } })
    await quotas.release('1')
    expect((await quotas.list()).map(({ heldBytes }) => heldBytes)).toEqual([0, 0])
  })

  it('let a hold pay for its own blob', async () => {
    const quotas = createQuotas(createMemoryObjects(), rules)
    await quotas.reserve(session('1'), 90)
    await quotas.charge('team/a', 90, '1')
    const [team] = await quotas.list()
    expect(team).toMatchObject({ usedBytes: 90, heldBytes: 0 })
    await quotas.discharge('team/a', 90)
    await quotas.charge('team/b', 100)
  })

  it('never let more through than the limit, with several processes at once', async () => {
    const objects = createMemoryObjects()
    const processes = [1, 2, 3].map(() => createQuotas(objects, rules))
    const reserve = async (quotas: Quotas, at: number): Promise<number> => {
      const asked = quotas.reserve(session(`${at}`), 7)
      return asked.then(
        () => 7,
        () => 0,
      )
    }
    const tries = Array.from({ length: 10 }, (_, at) =>
      processes.map((quotas, process) => reserve(quotas, 3 * at + process)),
    )
    const taken = await Promise.all(tries.flat())
    const letThrough = taken.reduce((a, b) => a + b, 0)
    expect(letThrough).toBe(98)
  })

  it('can be counted anew', async () => {
    const quotas = createQuotas(createMemoryObjects(), rules)
    await quotas.charge('team/a', 60)
    await quotas.reserve(session('gone'), 10)
    await quotas.reserve(session('kept'), 5)
    const links = () => linksOf({ name: 'team/a', size: 20 }, { name: 'b', size: 1 })
    expect(await quotas.recount({ links, sessions: async () => ['kept'] })).toBe(true)
    expect(await quotas.list()).toMatchObject([
      { usedBytes: 20, heldBytes: 5 },
      { usedBytes: 21, heldBytes: 5 },
    ])
  })

  it('are counted again where something is pushed meanwhile', async () => {
    const quotas = createQuotas(createMemoryObjects(), rules)
    await quotas.charge('team/a', 60)
    let counts = 0
    async function* links() {
      if (++counts === 1) await quotas.charge('team/a', 1)
      yield { name: 'team/a', size: 9 + counts }
    }
    expect(await quotas.recount({ links, sessions: async () => [] })).toBe(true)
    expect(await quotas.list()).toMatchObject([{ usedBytes: 11 }, { usedBytes: 11 }])
  })

  it('know that a count is not exact where something is always pushed meanwhile', async () => {
    const quotas = createQuotas(createMemoryObjects(), rules)
    async function* links() {
      await quotas.charge('team/a', 1)
      yield { name: 'team/a', size: 9 }
    }
    expect(await quotas.recount({ links, sessions: async () => [] })).toBe(false)
    expect(await quotas.list()).toMatchObject([{ usedBytes: 10 }, { usedBytes: 10 }])
  })

  it('are counted where a rule is new, and forgotten where there is none any more', async () => {
    const objects = createMemoryObjects()
    const count = {
      links: () => linksOf({ name: 'team/a', size: 20 }),
      sessions: async () => [],
    }
    const before = createQuotas(objects, rules)
    await before.settle(count)
    expect(await before.list()).toMatchObject([{ usedBytes: 20 }, { usedBytes: 20 }])
    await before.charge('team/a', 5)
    await before.settle(count)
    expect(await before.list()).toMatchObject([{ usedBytes: 25 }, { usedBytes: 25 }])
    await createQuotas(objects, []).settle(count)
    expect(await objects.list('v1/quota/', {})).toEqual([])
  })
})
