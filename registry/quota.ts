import { z } from 'zod'
import { CodedError } from '../core/errors.ts'
import type { ObjectStore } from '../core/object-store.ts'
import { keys } from './keys.ts'
import { createSerial } from '../core/serial.ts'
import { readVersioned, swap, type Versioned } from './versioned.ts'

/** A limit on the bytes that repositories below a prefix hold together; `''` is all of them. */
export interface QuotaRule {
  readonly prefix: string
  readonly limitBytes: number
}

/** One rule's account: `used` by links, `holds` for uploads on their way, by session. */
export const accountRecord = z.object({
  rev: z.int().nonnegative(),
  used: z.int().nonnegative(),
  holds: z.record(z.string(), z.int().nonnegative()),
})
type Account = z.output<typeof accountRecord>

export interface QuotaUse extends QuotaRule {
  readonly usedBytes: number
  readonly heldBytes: number
}

/**
 * Accounts of what repositories hold: the size of every blob they link, a blob in two repositories
 * counted twice. A link is charged before it is there and discharged after it is gone, so a crash
 * can only count too much; `recount` puts that right. Exact with any number of processes.
 */
export interface Quotas {
  /**
   * The session will hold up to `bytes` in all, counted from now on. Throws QUOTA_EXCEEDED with
   * the bytes used and the limit.
   */
  reserve(session: { readonly id: string; readonly repo: string }, bytes: number): Promise<void>
  /** The session holds nothing any more. */
  release(id: string): Promise<void>
  /** A repository gets a link to so many bytes; what the session `hold` has reserved pays for it. */
  charge(repository: string, bytes: number, hold?: string): Promise<void>
  discharge(repository: string, bytes: number): Promise<void>
  list(): Promise<QuotaUse[]>
  /**
   * Sets what is used to what `links` says, and drops holds of sessions that are not there. False
   * where so much was pushed or deleted meanwhile that the count may be off by some of that.
   */
  recount(count: Recount): Promise<boolean>
  /**
   * Fits the accounts to the rules: what was there before a new rule is counted, and an account
   * that no rule goes by any more is forgotten, because nobody keeps it right.
   */
  settle(count: Recount): Promise<void>
}

/** Reads what there is to count; called again where accounts change meanwhile. */
export interface Recount {
  links(): AsyncIterable<LinkedBytes>
  sessions(): Promise<Iterable<string>>
}

export interface LinkedBytes {
  readonly name: string
  readonly size: number
}

const keyOf = ({ prefix }: QuotaRule): string => keys.quota(prefix)

/** A recount that is always disturbed ends with a good guess. */
const mostAttempts = 4

const sum = (holds: Account['holds']): number => Object.values(holds).reduce((a, b) => a + b, 0)

export function createQuotas(objects: ObjectStore, rules: readonly QuotaRule[]): Quotas {
  const serial = createSerial()
  const matching = (repository: string): QuotaRule[] =>
    rules.filter(({ prefix }) => repository.startsWith(prefix))

  async function read(rule: QuotaRule): Promise<Versioned<Account> | undefined> {
    return readVersioned(objects, accountRecord, keyOf(rule))
  }

  /** Changes an account where `change` answers one that fits, or none where nothing is to change. */
  function update(
    rule: QuotaRule,
    change: (account: Account) => Account | undefined,
    mayExceed: boolean,
  ): Promise<void> {
    return serial(rule.prefix, async () => {
      for (;;) {
        const current = await read(rule)
        const before = current?.record ?? { rev: 0, used: 0, holds: {} }
        const after = change(before)
        if (!after) return
        const total = after.used + sum(after.holds)
        const grows = total > before.used + sum(before.holds)
        if (!mayExceed && grows && total > rule.limitBytes) throw exceeded(rule, before)
        if (await swap(objects, keyOf(rule), { ...after, rev: before.rev + 1 }, current)) return
      }
    })
  }

  /** In all accounts or none. */
  async function updateAll(
    affected: readonly QuotaRule[],
    change: (account: Account) => Account,
    undo: (account: Account) => Account,
  ): Promise<void> {
    const done: QuotaRule[] = []
    try {
      for (const rule of affected) {
        await update(rule, change, false)
        done.push(rule)
      }
    } catch (error) {
      for (const rule of done) await update(rule, undo, true)
      throw error
    }
  }

  async function recount(count: Recount): Promise<boolean> {
    let waiting = rules
    for (let attempt = 0; attempt < mostAttempts && waiting.length > 0; attempt++) {
      const isLast = attempt === mostAttempts - 1
      const before = await Promise.all(waiting.map(read))
      const used = await sumLinks(waiting, count)
      const sessions = new Set(await count.sessions())
      const changed: QuotaRule[] = []
      for (const [at, rule] of waiting.entries()) {
        const known = before[at]
        const current = isLast ? await read(rule) : known
        // What was pushed while it was counted may have been counted or not.
        const drift = (current?.record.used ?? 0) - (known?.record.used ?? 0)
        const holds = Object.entries(current?.record.holds ?? {})
        const counted: Account = {
          rev: (current?.record.rev ?? 0) + 1,
          used: Math.max(0, (used.get(rule) ?? 0) + drift),
          holds: Object.fromEntries(holds.filter(([id]) => sessions.has(id))),
        }
        const written = await swap(objects, keyOf(rule), counted, current)
        if (!written || current?.etag !== known?.etag) changed.push(rule)
      }
      waiting = changed
    }
    return waiting.length === 0
  }

  const without = (holds: Account['holds'], id: string | undefined): Account['holds'] =>
    Object.fromEntries(Object.entries(holds).filter(([key]) => key !== id))

  const less = (account: Account, bytes: number): Account => ({
    ...account,
    used: Math.max(0, account.used - bytes),
  })

  return {
    reserve: ({ id, repo }, bytes) =>
      updateAll(
        matching(repo),
        (account) => ({ ...account, holds: { ...account.holds, [id]: bytes } }),
        (account) => ({ ...account, holds: without(account.holds, id) }),
      ),
    async release(id) {
      for (const rule of rules) {
        const drop = (account: Account): Account | undefined =>
          id in account.holds ? { ...account, holds: without(account.holds, id) } : undefined
        await update(rule, drop, true)
      }
    },
    charge: (repository, bytes, hold) =>
      updateAll(
        matching(repository),
        ({ holds, used, rev }) => ({ rev, used: used + bytes, holds: without(holds, hold) }),
        (account) => less(account, bytes),
      ),
    async discharge(repository, bytes) {
      for (const rule of matching(repository)) {
        await update(rule, (account) => less(account, bytes), true)
      }
    },
    async list() {
      const found = await Promise.all(rules.map(read))
      return rules.map((rule, at) => ({
        ...rule,
        usedBytes: found[at]?.record.used ?? 0,
        heldBytes: sum(found[at]?.record.holds ?? {}),
      }))
    },
    recount,
    async settle(count) {
      const known = new Set(rules.map(keyOf))
      for (const key of await objects.list(keys.quotas, {})) {
        if (!known.has(key)) await objects.delete(key)
      }
      const accounts = await Promise.all(rules.map(read))
      if (accounts.includes(undefined)) await recount(count)
    },
  }

  async function sumLinks(
    counted: readonly QuotaRule[],
    { links }: Recount,
  ): Promise<ReadonlyMap<QuotaRule, number>> {
    const used = new Map<QuotaRule, number>()
    for await (const { name, size } of links()) {
      for (const rule of counted) {
        if (name.startsWith(rule.prefix)) used.set(rule, (used.get(rule) ?? 0) + size)
      }
    }
    return used
  }
}

function exceeded({ prefix, limitBytes }: QuotaRule, { used, holds }: Account): CodedError {
  const usedBytes = used + sum(holds)
  const where = prefix === '' ? 'all repositories together' : `repositories below ${prefix}`
  return new CodedError(
    'QUOTA_EXCEEDED',
    `${where} use ${usedBytes} of ${limitBytes} bytes and may not hold that much more; delete images or have the limit raised`,
    { detail: { prefix, usedBytes, limitBytes } },
  )
}
