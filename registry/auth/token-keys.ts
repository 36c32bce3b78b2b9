import { randomBytes } from 'node:crypto'
import { z } from 'zod'
import { CodedError } from '../../core/errors.ts'
import type { ObjectStore } from '../../core/object-store.ts'
import { decodeJson, encodeJson } from '../records.ts'

/** A key signs for so long, and its tokens are accepted for as long again at most. */
const periodMs = 30 * 24 * 60 * 60_000
/** Who makes up a `kid` must not cost a look into the store each time. */
const absentMs = 5000
const folder = 'v1/auth/token-keys/'
const keyOf = (period: number): string => `${folder}${period}.json`

const keyRecord = z.object({ alg: z.literal('HS256'), k: z.base64url().length(43) })

export interface TokenKey {
  /** `kid` of the tokens it signs: the period it is for. */
  readonly id: string
  readonly secret: Uint8Array
}

/** The keys that sign our tokens, shared by all that work on one store. */
export interface TokenKeys {
  /** The key to sign with now. */
  current(): Promise<TokenKey>
  /** The key `id`, if it may still verify; one that nobody made is looked for once in five seconds. */
  find(id: string): Promise<TokenKey | undefined>
}

/**
 * One key per period of 30 days, made in the store by whoever needs it first: replicas agree
 * without talking and without a setting. A period's number is its name, so a stranger's `kid`
 * costs no look into the store unless it is of this period or its neighbours.
 */
export function createTokenKeys(
  objects: ObjectStore,
  now: () => number = () => Date.now(),
): TokenKeys {
  const known = new Map<number, TokenKey>()
  const absentUntil = new Map<number, number>()
  const loading = new Map<number, Promise<TokenKey | undefined>>()
  const periodNow = (): number => Math.floor(now() / periodMs)

  async function read(period: number): Promise<TokenKey | undefined> {
    const found = await objects.get(keyOf(period))
    if (!found) return undefined
    const { k } = decodeJson(keyRecord, found.bytes, keyOf(period))
    return { id: String(period), secret: Buffer.from(k, 'base64url') }
  }

  async function make(period: number): Promise<TokenKey> {
    const record = { alg: 'HS256', k: randomBytes(32).toString('base64url') }
    const isOurs = await objects.put(keyOf(period), encodeJson(record), 'ifAbsent')
    const key = await read(period)
    if (!key) throw new CodedError('UNKNOWN', `${keyOf(period)} is gone right after it was made`)
    if (isOurs !== undefined) await removeBefore(period - 1)
    return key
  }

  async function removeBefore(oldest: number): Promise<void> {
    const keys = await objects.list(folder, {})
    const old = keys.filter((key) => Number(/(\d+)\.json$/.exec(key)?.[1] ?? oldest) < oldest)
    await Promise.all(old.map((key) => objects.delete(key)))
  }

  /** One look at a time; what was found is kept as long as it may be used. */
  function load(
    period: number,
    look: () => Promise<TokenKey | undefined>,
  ): Promise<TokenKey | undefined> {
    const running = loading.get(period)
    if (running) return running
    const started = look()
      .then((key) => {
        if (key) known.set(period, key)
        else absentUntil.set(period, now() + absentMs)
        for (const old of known.keys()) if (old < periodNow() - 1) known.delete(old)
        for (const old of absentUntil.keys()) if (old < periodNow() - 1) absentUntil.delete(old)
        return key
      })
      .finally(() => loading.delete(period))
    loading.set(period, started)
    return started
  }

  return {
    async current() {
      const period = periodNow()
      const key = known.get(period)
      if (key) return key
      // Another one may be looking for it only to verify.
      await loading.get(period)
      const loaded = await load(period, async () => (await read(period)) ?? make(period))
      return loaded ?? make(period)
    },
    async find(id) {
      if (!/^\d{1,9}$/.test(id)) return undefined
      const period = Number(id)
      if (Math.abs(period - periodNow()) > 1) return undefined
      const key = known.get(period)
      if (key || now() < (absentUntil.get(period) ?? 0)) return key
      return load(period, () => read(period))
    },
  }
}
