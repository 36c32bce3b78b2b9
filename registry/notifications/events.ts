import type { FastifyRequest } from 'fastify'
import { factsOf } from '../http/request-facts.ts'

export const eventActions = ['push', 'pull', 'delete', 'mount'] as const
export type EventAction = (typeof eventActions)[number]

/** What it happened to: a manifest, a blob, or a tag alone. */
export interface EventTarget {
  readonly repository: string
  readonly digest?: string | undefined
  readonly mediaType?: string | undefined
  readonly size?: number | undefined
  readonly tag?: string | undefined
  /** Of a mount: where the blob was. */
  readonly fromRepository?: string | undefined
}

/** Something that happened to the content of a repository. */
export interface RegistryEvent {
  readonly action: EventAction
  readonly target: EventTarget
  /** Who did it, as `kind:name`. */
  readonly actor?: string | undefined
  /** What asked for it; none where this process did it by itself, as for an import. */
  readonly request?: EventRequest | undefined
}

export interface EventRequest {
  readonly id: string
  readonly remote: string
  readonly scheme: 'http' | 'https'
  /** As the client named this server. */
  readonly host: string
  readonly method: string
  readonly userAgent: string
}

/** Where events go. */
export interface Events {
  /** Returns at once and never throws: nobody's request waits for those who listen. */
  emit(event: RegistryEvent): void
}

/** Nobody listens. */
export const noEvents: Events = { emit: () => {} }

/** The event that a request has caused. */
export function eventOf(
  request: FastifyRequest,
  action: EventAction,
  target: EventTarget,
): RegistryEvent {
  const { raw, headers } = request
  const isEncrypted = 'encrypted' in raw.socket && raw.socket.encrypted === true
  return {
    action,
    target,
    actor: factsOf(raw).identity,
    request: {
      id: request.id,
      remote: raw.socket.remoteAddress ?? '',
      scheme: isEncrypted ? 'https' : 'http',
      host: headers.host ?? '',
      method: request.method,
      userAgent: headers['user-agent']?.slice(0, 300) ?? '',
    },
  }
}
