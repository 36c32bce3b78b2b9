import { isIPv6 } from 'node:net'
import { LRUCache } from 'lru-cache'
import { CodedError } from '../../core/errors.ts'
import type { Limit } from './access-file.ts'

/** Beyond so many names at a time the one unseen for longest starts anew. */
const mostNames = 20_000

/** So much of something per second and name, `burst` at once. */
export interface TokenBuckets {
  /** Takes one; answers 0, or the seconds until there is one again and takes nothing. */
  take(name: string): number
  giveBack(name: string): void
}

export function createTokenBuckets(
  { perSecond, burst }: { readonly perSecond: number; readonly burst: number },
  now: () => number = () => performance.now(),
): TokenBuckets {
  const buckets = new LRUCache<string, { tokens: number; atMs: number }>({ max: mostNames })
  const fill = (name: string): { tokens: number; atMs: number } => {
    const bucket = buckets.get(name) ?? { tokens: burst, atMs: now() }
    const passedMs = now() - bucket.atMs
    bucket.tokens = Math.min(burst, bucket.tokens + (passedMs / 1000) * perSecond)
    bucket.atMs += passedMs
    buckets.set(name, bucket)
    return bucket
  }
  return {
    take(name) {
      const bucket = fill(name)
      if (bucket.tokens < 1) return (1 - bucket.tokens) / perSecond
      bucket.tokens -= 1
      return 0
    },
    giveBack(name) {
      const bucket = fill(name)
      bucket.tokens = Math.min(burst, bucket.tokens + 1)
    },
  }
}

/** Requests of one name: how fast they come, and how many are at work. */
export interface RequestLimit {
  /** Counts a request in until the answer is called. Throws TOOMANYREQUESTS. */
  enter(name: string): () => void
}

export function createRequestLimit({
  requestsPerSecond: perSecond,
  burst,
  concurrent,
}: Limit): RequestLimit {
  const buckets = createTokenBuckets({ perSecond, burst })
  const working = new Map<string, number>()
  return {
    enter(name) {
      const count = working.get(name) ?? 0
      // What is at work ends when it ends: a second is as good a guess as any.
      if (count >= concurrent) throw tooMany(`${concurrent} requests at a time`, 1)
      const seconds = buckets.take(name)
      if (seconds > 0) throw tooMany(`${perSecond} requests per second`, seconds)
      working.set(name, count + 1)
      let entered = true
      return () => {
        if (!entered) return
        entered = false
        const left = (working.get(name) ?? 1) - 1
        if (left > 0) working.set(name, left)
        else working.delete(name)
      }
    },
  }
}

export function tooMany(what: string, seconds: number): CodedError {
  return new CodedError('TOOMANYREQUESTS', `the limit is ${what}; try again later`, {
    detail: { retryAfterSeconds: Math.max(1, Math.ceil(seconds)) },
  })
}

/** What one client can be told by: its address, of IPv6 the network that one gets (/64). */
export function addressName(address: string): string {
  if (!isIPv6(address)) return address
  const [head = '', tail] = address.split('%', 1)[0]?.split('::') ?? []
  const before = head === '' ? [] : head.split(':')
  const after = tail === undefined || tail === '' ? [] : tail.split(':')
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - before.length - after.length)
  const groups = [...before, ...Array.from({ length: zeros }, () => '0'), ...after].slice(0, 4)
  return `${groups.map((group) => Number.parseInt(group, 16).toString(16)).join(':')}::/64`
}
