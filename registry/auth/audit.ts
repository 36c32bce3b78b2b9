import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Log } from '../../core/log.ts'
import { queryValue } from '../routes/context.ts'
import { factsOf, pathOf } from '../http/request-facts.ts'
import { distributionTarget } from '../routes/distribution.ts'
import { auditNotes } from './request-access.ts'

/** What was changed: an event's name, and where. Never a header, a query or a body as a whole. */
interface Change {
  readonly event: string
  readonly [fact: string]: unknown
}

/**
 * One line at level info per change that a request made, and at level warn per request that was
 * refused for who sent it. `docs/access.md` lists the events.
 */
export function registerAudit(
  app: FastifyInstance,
  log: Log,
  addressOf: (request: FastifyRequest) => string,
): void {
  app.addHook('onResponse', async (request, reply) => {
    const status = reply.raw.statusCode
    const change = describe(request, reply, status)
    if (!change) return
    const facts = factsOf(request.raw)
    const { event, ...where } = change
    const who = {
      identity: facts.identity ?? 'unknown',
      address: addressOf(request),
      requestId: facts.id,
    }
    const outcome = status < 400 ? 'done' : 'refused'
    const line = { audit: event, ...who, outcome, status, ...where, ...auditNotes(request) }
    if (outcome === 'done') log.info(line, 'audit')
    else log.warn(line, 'audit')
  })
}

function describe(
  request: FastifyRequest,
  reply: FastifyReply,
  status: number,
): Change | undefined {
  if (status === 403 || (status === 401 && request.headers.authorization !== undefined)) {
    return { event: 'access.refused', method: request.method, path: pathOf(request.raw) }
  }
  const { config, url } = request.routeOptions
  // No change, but all there is.
  if (status < 300 && url === '/v1/registry/export') return { event: 'registry.export' }
  if (status >= 300 || ['GET', 'HEAD', 'OPTIONS'].includes(request.method)) return undefined
  if (config.access === 'token') return undefined
  if (config.access === 'distribution') return distributionChange(request, reply, status)
  return apiChange(`${request.method} ${url}`, request, reply)
}

function distributionChange(
  request: FastifyRequest,
  reply: FastifyReply,
  status: number,
): Change | undefined {
  const target = distributionTarget(request)
  if (!target || !('name' in target)) return undefined
  const { method } = request
  const repository = target.name
  const digest = reply.getHeader('docker-content-digest')
  if (target.kind === 'manifest') {
    const { reference } = target
    if (method === 'PUT') return { event: 'manifest.push', repository, reference, digest }
    const isTag = !reference.includes(':')
    return { event: isTag ? 'tag.delete' : 'manifest.delete', repository, reference }
  }
  if (target.kind === 'blob') {
    return { event: 'blob.delete', repository, digest: target.digest }
  }
  // What was begun or went on is no change yet.
  if (status === 202) return undefined
  if (method === 'DELETE') return { event: 'upload.cancel', repository }
  // As the handler decides it: what came with bytes is a push, whatever else the query says.
  const asked = (key: string): boolean => queryValue(request, key) !== undefined
  const isMount = target.kind === 'uploads' && asked('mount') && !asked('digest')
  if (!isMount) return { event: 'blob.push', repository, digest }
  return { event: 'blob.mount', repository, digest, from: queryValue(request, 'from') }
}

/** The image API; a route that is not known here is still named. */
function apiChange(route: string, { params, body }: FastifyRequest, reply: FastifyReply): Change {
  const { name: repository, tag } = Object(body)
  const inPath = Object(params)
  switch (route) {
    case 'POST /v1/imports': {
      const id = String(reply.getHeader('location') ?? '')
        .split('/')
        .at(-1)
      return { event: 'import.start', import: id, repository, tag }
    }
    case 'DELETE /v1/imports/:id':
      return { event: 'import.cancel', import: inPath.id }
    case 'DELETE /v1/image/:image':
      return { event: 'image.delete', image: inPath.image }
    case 'PUT /v1/image/:image/tags/:tag':
      return { event: 'tag.set', image: inPath.image, tag: inPath.tag }
    default:
      return { event: 'change', route, ...inPath }
  }
}
