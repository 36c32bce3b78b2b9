import type { FastifyRequest } from 'fastify'
import { CodedError } from '../../core/errors.ts'
import { hasBody } from './request-body.ts'

/**
 * `loopback`: the Host must be this machine's. `any-host`: it may be anything. `origin`: only pages
 * of other sites are refused, as a server with authentication does it: browsers keep credentials.
 */
export type GuardMode = 'loopback' | 'any-host' | 'origin'

/**
 * What protects a server, above all one without authentication, from web pages: a page elsewhere can neither reach
 * it by a name of its own (DNS rebinding), nor send it anything as a form or from its origin.
 * Throws HOST_REFUSED, ORIGIN_REFUSED or MEDIA_TYPE_REFUSED.
 */
export function guardRequest(request: FastifyRequest, mode: GuardMode): void {
  const { host, origin, 'content-type': contentType } = request.headers
  if (mode === 'loopback' && !isLoopbackHost(host)) {
    throw new CodedError(
      'HOST_REFUSED',
      `this server answers for this machine only (localhost, 127.0.0.1, [::1]), not for ${JSON.stringify(host?.slice(0, 100))}`,
    )
  }
  if (origin !== undefined && !isSameOrigin(origin, host)) {
    throw new CodedError(
      'ORIGIN_REFUSED',
      `pages of ${JSON.stringify(origin.slice(0, 100))} may not use this server`,
    )
  }
  if (mode !== 'origin' && hasBody(request.raw) && !isAcceptedType(contentType)) {
    throw new CodedError(
      'MEDIA_TYPE_REFUSED',
      `bodies of type ${JSON.stringify(contentType?.slice(0, 100))} are not taken; send application/json, application/octet-stream or a manifest's type`,
    )
  }
}

/** True for `localhost`, `*.localhost`, 127.0.0.0/8 and `[::1]`, with any port. */
export function isLoopbackHost(host: string | undefined): boolean {
  // What a URL would make of it: short and numeric forms of addresses become plain ones.
  if (host === undefined || !/^[\w.:[\]-]+$/.test(host) || !URL.canParse(`http://${host}`))
    return false
  const { hostname } = new URL(`http://${host}`)
  return /^(?:(?:.+\.)?localhost\.?|127(?:\.\d{1,3}){3}|\[::1\])$/.test(hostname)
}

function isSameOrigin(origin: string, host: string | undefined): boolean {
  return URL.canParse(origin) && new URL(origin).host === host?.toLowerCase()
}

/** No type at all is fine: a web page cannot send a body without one from another origin. */
function isAcceptedType(contentType: string | undefined): boolean {
  const type = contentType?.split(';', 1)[0]?.trim().toLowerCase()
  if (type === undefined) return true
  return /^application\/(?:json|octet-stream|vnd\.(?:oci|docker)\.[a-z0-9.+-]+)$/.test(type)
}
