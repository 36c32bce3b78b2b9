import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Access } from '../../core/access.ts'
import type { Bytes } from '../../core/streams.ts'
import type { BodyMemory } from '../http/body-memory.ts'
import type { FloorSpeed } from '../http/floor-speed.ts'
import type { Metrics } from '../metrics.ts'
import type { EventAction, EventTarget } from '../notifications/events.ts'
import type { Store } from '../store.ts'
import type { Target } from '../http/target.ts'

/** One request for one kind of target. */
export interface Call<K extends Target['kind']> {
  readonly store: Store
  readonly metrics: Metrics
  readonly target: Extract<Target, { kind: K }>
  readonly request: FastifyRequest
  readonly reply: FastifyReply
  /** What the caller may do; that the request itself is allowed is settled already. */
  readonly access: Access
  /** The request's body, guarded against clients that are too slow. */
  body(): Bytes
  /** Tells those who listen what has happened to the target's repository. */
  notify(action: EventAction, target: Omit<EventTarget, 'repository'>): void
  /** For bodies that are read as a whole. */
  readonly bodyMemory: BodyMemory
  /** For bodies that are sent. */
  readonly speed: FloorSpeed
}

export type Handler<K extends Target['kind']> = (call: Call<K>) => Promise<unknown>

/** The value of a query parameter that is given at most once; `undefined` without it. */
export function queryValue(request: FastifyRequest, key: string): string | undefined {
  return queryValues(request, key)[0]
}

export function queryValues(request: FastifyRequest, key: string): string[] {
  return new URL(request.url, 'http://localhost').searchParams.getAll(key)
}

/** True where `If-None-Match` names `etag`. @see RFC 9110 §13.1.2 */
export function isNotModified(request: FastifyRequest, etag: string): boolean {
  const tags = request.headers['if-none-match']?.split(',').map((tag) => tag.trim())
  return tags?.some((tag) => tag === '*' || tag.replace(/^W\//, '') === etag) ?? false
}
