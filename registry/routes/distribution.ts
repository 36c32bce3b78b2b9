import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { CodedError } from '../../core/errors.ts'
import { accessOf } from '../auth/request-access.ts'
import { createBodyMemory } from '../http/body-memory.ts'
import type { FloorSpeed } from '../http/floor-speed.ts'
import type { Metrics } from '../metrics.ts'
import { eventOf, type Events } from '../notifications/events.ts'
import { readBody } from '../http/request-body.ts'
import type { Store } from '../store.ts'
import { parseTarget, type Target } from '../http/target.ts'
import { deleteBlob, getBlob } from './blobs.ts'
import type { Call, Handler } from './context.ts'
import { listRepositories, listTags } from './listings.ts'
import { deleteManifest, getManifest, putManifest } from './manifests.ts'
import { listReferrers } from './referrers.ts'
import { appendUpload, cancelUpload, finishUpload, getUpload, startUpload } from './uploads.ts'

const ping: Handler<'ping'> = async ({ reply }) => reply.send({})

/** The endpoints that no other registry need have. @see OCI distribution-spec §extensions */
const listExtensions: Handler<'extensions'> = async ({ reply }) =>
  reply.send({
    extensions: [
      { name: '_catalog', description: 'names of repositories', endpoints: ['_catalog'] },
      { name: '_oci', description: 'this list', endpoints: ['_oci/ext/discover'] },
    ],
  })

const handlers: { readonly [K in Target['kind']]: Readonly<Record<string, Handler<K>>> } = {
  ping: { GET: ping, HEAD: ping },
  catalog: { GET: listRepositories },
  extensions: { GET: listExtensions },
  tags: { GET: listTags },
  referrers: { GET: listReferrers },
  manifest: {
    GET: getManifest,
    HEAD: getManifest,
    PUT: putManifest,
    DELETE: deleteManifest,
  },
  blob: { GET: getBlob, HEAD: getBlob, DELETE: deleteBlob },
  uploads: { POST: startUpload },
  upload: { GET: getUpload, PATCH: appendUpload, PUT: finishUpload, DELETE: cancelUpload },
}

export interface DistributionOptions {
  readonly store: Store
  readonly metrics: Metrics
  readonly speed: FloorSpeed
  readonly events: Events
}

/** Of all manifests that are being pushed. */
const mostBodyBytes = 128 * 1024 * 1024

/** The whole of `/v2/`: one route, because repository names contain slashes. */
export function registerDistribution(app: FastifyInstance, options: DistributionOptions): void {
  const { speed, events } = options
  const bodyMemory = createBodyMemory(mostBodyBytes)
  app.register(async (scope) => {
    // Bodies are read by the handlers, blobs of any size as streams: Fastify's limit is not ours.
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('*', (_request, _payload, done) => done(null))
    scope.route({
      method: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'],
      url: '/v2/*',
      config: { access: 'distribution' },
      handler: (request, reply) => {
        reply.header('docker-distribution-api-version', 'registry/2.0')
        const body = () => readBody(request, reply, speed)
        const target = targetOf(request)
        const repository = 'name' in target ? target.name : ''
        return dispatch(target, {
          ...options,
          request,
          reply,
          access: accessOf(request),
          body,
          bodyMemory,
          notify: (action, what) => events.emit(eventOf(request, action, { repository, ...what })),
        })
      },
    })
    scope.route({
      method: ['GET', 'HEAD'],
      url: '/v2',
      config: { access: 'distribution' },
      handler: (_request, reply) => {
        reply.header('docker-distribution-api-version', 'registry/2.0')
        return reply.send({})
      },
    })
  })
}

/** What the request is for; throws NAME_UNKNOWN where `/v2/` has no such endpoint. */
function targetOf(request: FastifyRequest): Target {
  const target = distributionTarget(request)
  if (target) return target
  throw new CodedError('NAME_UNKNOWN', `no such endpoint: /v2/${wildcard(request).slice(0, 300)}`)
}

/** What a request below `/v2/` is for: one reading for who may do it and for doing it. */
export function distributionTarget(request: FastifyRequest): Target | undefined {
  return parseTarget(wildcard(request))
}

function wildcard({ params }: FastifyRequest): string {
  const isRecord = typeof params === 'object' && params !== null && '*' in params
  return isRecord ? String(params['*']) : ''
}

function dispatch<K extends Target['kind']>(
  target: Extract<Target, { kind: K }>,
  rest: Omit<Call<K>, 'target'>,
): Promise<unknown> {
  const kind: K = target.kind
  const methods: Readonly<Record<string, Handler<K>>> = handlers[kind]
  const handler = methods[rest.request.method]
  if (!handler) throw methodUnsupported(rest.request, rest.reply, Object.keys(methods))
  return handler({ ...rest, target })
}

function methodUnsupported(
  request: FastifyRequest,
  reply: FastifyReply,
  methods: readonly string[],
): CodedError {
  reply.header('allow', methods.join(', '))
  return new CodedError(
    'UNSUPPORTED',
    `${request.method} is not possible here; possible: ${methods.join(', ')}`,
  )
}
