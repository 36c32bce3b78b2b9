import type { FastifyRequest } from 'fastify'
import { fullAccess, type Access } from '../../core/access.ts'

/**
 * Who may use a route of a server with authentication. `open`: anybody, uncounted. `by-handler`:
 * the handler asks the request's `Access`. `admin` (where a route says nothing): who administers
 * everything.
 */
export type RouteAccess = 'open' | 'by-handler' | 'admin' | 'metrics' | 'token' | 'distribution'

declare module 'fastify' {
  interface FastifyContextConfig {
    access?: RouteAccess
  }
}

const accesses = new WeakMap<FastifyRequest, Access>()
const notes = new WeakMap<FastifyRequest, Readonly<Record<string, unknown>>>()

/** What the sender of a request may do; everything on a server without authentication. */
export function accessOf(request: FastifyRequest): Access {
  return accesses.get(request) ?? fullAccess
}

export function setAccess(request: FastifyRequest, access: Access): void {
  accesses.set(request, access)
}

/** Adds facts to the line of the audit log that is written for this request, if one is. */
export function noteForAudit(
  request: FastifyRequest,
  facts: Readonly<Record<string, unknown>>,
): void {
  notes.set(request, { ...notes.get(request), ...facts })
}

export function auditNotes(request: FastifyRequest): Readonly<Record<string, unknown>> {
  return notes.get(request) ?? {}
}
