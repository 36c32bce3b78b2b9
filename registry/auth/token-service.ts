import type { FastifyInstance, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { parseScopes } from '../../core/auth-challenge.ts'
import { CodedError } from '../../core/errors.ts'
import { sendContinue } from '../http/request-body.ts'
import type { AccessControl } from './access-control.ts'
import { senderOf } from './authenticate.ts'
import { grant } from './caller-access.ts'
import { parseAuthorization, type Credentials, type Identity } from './identity.ts'

const formLimitBytes = 64 * 1024
const mostScopes = 100

const formSchema = z.object({
  grant_type: z.enum(['password', 'refresh_token']),
  scope: z.array(z.string()),
  username: z.string().default(''),
  password: z.string().default(''),
  refresh_token: z.string().default(''),
})

/**
 * `GET` and `POST /v2/token`: short tokens for what a client wants to do, of that what its rules
 * allow; without credentials for what anybody may do. `onIdentified` may refuse the caller.
 * @see docker registry token spec, and its OAuth2 form
 */
export function registerTokenService(
  app: FastifyInstance,
  access: AccessControl,
  onIdentified: (request: FastifyRequest, identity: Identity) => void,
): void {
  async function answer(request: FastifyRequest, credentials: Credentials, asked: string[]) {
    const scopes = parseScopes(asked.join(' '))
    if (scopes.length > mostScopes) {
      throw new CodedError('REQUEST_INVALID', `at most ${mostScopes} scopes fit into one token`)
    }
    const { state } = access
    const identity = await access.authenticator.identifyBy(
      credentials,
      senderOf(request, state),
      state,
    )
    onIdentified(request, identity)
    const claims = { identity, scopes: grant(identity, scopes, state.rules) }
    const { token, seconds, issuedAt } = await access.tokens.issue(claims)
    return { token, access_token: token, expires_in: seconds, issued_at: issuedAt.toISOString() }
  }

  app.register(async (scope) => {
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser(
      'application/x-www-form-urlencoded',
      { parseAs: 'string', bodyLimit: formLimitBytes },
      async (_request: FastifyRequest, body: string) => new URLSearchParams(body),
    )
    scope.addHook('onRequest', async (_request, reply) => {
      reply.header('cache-control', 'no-store')
    })
    scope.addHook('preParsing', async (request, reply) => sendContinue(request, reply))
    scope.get('/v2/token', { config: { access: 'token' } }, (request) => {
      const { searchParams } = new URL(request.url, 'http://localhost')
      const credentials = parseAuthorization(request.headers.authorization)
      return answer(request, credentials, searchParams.getAll('scope'))
    })
    scope.post('/v2/token', { config: { access: 'token' } }, (request) => {
      const form = formOf(request.body)
      return answer(request, credentialsOf(form), form.scope)
    })
  })
}

function formOf(body: unknown): z.output<typeof formSchema> {
  const fields = body instanceof URLSearchParams ? body : new URLSearchParams()
  const form = { ...Object.fromEntries(fields), scope: fields.getAll('scope') }
  const result = formSchema.safeParse(form)
  if (result.success) return result.data
  throw new CodedError(
    'REQUEST_INVALID',
    'expected a form with grant_type=password or grant_type=refresh_token',
  )
}

/** A refresh token is whatever the client was given to keep: a robot's token, or another issuer's. */
function credentialsOf(form: z.output<typeof formSchema>): Credentials {
  return form.grant_type === 'password'
    ? { kind: 'basic', user: form.username, password: form.password }
    : { kind: 'bearer', token: form.refresh_token }
}
