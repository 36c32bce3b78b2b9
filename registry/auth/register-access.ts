import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Access, Action } from '../../core/access.ts'
import { formatChallenge, formatScope } from '../../core/auth-challenge.ts'
import { CodedError } from '../../core/errors.ts'
import type { Log } from '../../core/log.ts'
import { isName, parseName } from '../../core/reference.ts'
import { factsOf, pathOf } from '../http/request-facts.ts'
import { distributionTarget } from '../routes/distribution.ts'
import type { Target } from '../http/target.ts'
import { isOver } from '../http/transport.ts'
import type { AccessControl } from './access-control.ts'
import { registerAudit } from './audit.ts'
import { senderOf, type Caller } from './authenticate.ts'
import {
  catalogScope,
  createCallerAccess,
  includes,
  insufficient,
  refusal,
  scopeFor,
} from './caller-access.ts'
import { callerOf, type Identity } from './identity.ts'
import { addressName } from './limits.ts'
import { accessOf, noteForAudit, setAccess } from './request-access.ts'
import { registerTokenService } from './token-service.ts'
import { tokenService } from './tokens.ts'

/** Of requests that nobody was asked for. */
const noAccess: Access = {
  caller: 'unknown',
  may: () => false,
  demand: refuseUnknown,
  demandSome: refuseUnknown,
  mayFind: () => false,
}

function refuseUnknown(): never {
  throw new CodedError('DENIED', 'nobody was asked who sends this')
}

/**
 * Lets a request in, before its body is read: counted by its address, then known, counted by who
 * sends it, and allowed by the rules. Adds `/v2/token` and the audit log.
 */
export function registerAccess(app: FastifyInstance, access: AccessControl, log: Log): void {
  // The connection may be gone when the line is written.
  const senders = new WeakMap<FastifyRequest, string>()
  app.addHook('onRequest', async (request, reply) => {
    setAccess(request, noAccess)
    const how = request.is404 ? 'by-handler' : (request.routeOptions.config.access ?? 'admin')
    if (how === 'open') return
    const { state } = access
    const { address } = state.limits
    const sender = senderOf(request, state)
    senders.set(request, sender.address)
    untilAnswered(reply, address.enter(addressName(sender.address)))
    // The token service reads who it is where the client writes it.
    if (how === 'token') return
    const caller = await access.authenticator.identify(sender, state)
    admit(request, reply, caller.identity)
    setAccess(request, createCallerAccess(caller, state.rules))
    if (how === 'distribution') authorise(request, caller)
    else if (how === 'metrics') requireAdmin(caller, request.raw, state.file.metrics)
    else if (how === 'admin') requireAdmin(caller, request.raw, [])
  })

  app.addHook('onError', async (request, reply, error) => {
    if (!(error instanceof CodedError)) return
    noteForAudit(request, { code: error.code })
    if (error.code === 'UNAUTHORIZED') reply.header('www-authenticate', challenge(request, error))
  })

  registerTokenService(app, access, (request, identity) => {
    noteIdentity(request, identity)
  })
  registerAudit(app, log, (request) => senders.get(request) ?? 'unknown')

  function admit(request: FastifyRequest, reply: FastifyReply, identity: Identity): void {
    noteIdentity(request, identity)
    // Those who nobody knows are many; their addresses are counted already.
    if (identity.kind === 'anonymous') return
    untilAnswered(reply, access.state.limits.identity.enter(callerOf(identity)))
  }

  function authorise(request: FastifyRequest, { identity, scopes }: Caller): void {
    const { rules } = access.state
    const target = distributionTarget(request)
    // There is no such endpoint; the handler says so.
    if (!target) return
    if (target.kind === 'ping') {
      // Clients learn here where tokens are, also those who then ask for one as nobody.
      const isNobody = identity.kind === 'anonymous' && scopes === undefined
      if (isNobody) throw new CodedError('UNAUTHORIZED', 'this registry needs a token')
    } else if (target.kind === 'extensions') {
      // The same for everybody.
    } else if (target.kind === 'catalog') {
      const { type, name } = catalogScope
      if (scopes && !includes(scopes, type, name, '*')) throw insufficient([catalogScope])
      if (identity.kind === 'anonymous' && !rules.allowsSome(identity, 'pull')) {
        throw refusal(identity, 'the list of repositories', [catalogScope])
      }
    } else {
      accessOf(request).demand(actionOf(request.method, target), parseName(target.name))
    }
  }

  /** For what belongs to the server itself; a token of ours is for repositories, never for that. */
  function requireAdmin({ identity, scopes }: Caller, raw: FastifyRequest['raw'], also: string[]) {
    const { rules } = access.state
    const is = rules.isAdmin(identity) || rules.matches(identity, also)
    if (scopes !== undefined || !is) throw refusal(identity, `${raw.method} ${pathOf(raw)}`, [])
  }

  /** Bearer where clients know the token service, Basic for those that know only that. */
  function challenge(request: FastifyRequest, { detail }: CodedError): string {
    if (request.routeOptions.config.access !== 'distribution') {
      return formatChallenge({ scheme: 'Basic', parameters: { realm: tokenService } })
    }
    const { scope: missing, error } = detail ?? {}
    const wanted = [...scopesOf(request), ...(typeof missing === 'string' ? [missing] : [])]
    const scope = [...new Set(wanted)].join(' ')
    return formatChallenge({
      scheme: 'Bearer',
      parameters: {
        realm: `${access.state.file.tokens.url ?? originOf(request)}/v2/token`,
        service: tokenService,
        ...(scope === '' ? {} : { scope }),
        ...(typeof error === 'string' ? { error } : {}),
      },
    })
  }
}

function noteIdentity(request: FastifyRequest, identity: Identity): void {
  factsOf(request.raw).identity = callerOf(identity)
}

function untilAnswered(reply: FastifyReply, leave: () => void): void {
  if (isOver(reply.raw)) leave()
  else reply.raw.once('close', leave)
}

/** What a token for the request must be for, whoever sends it. */
function scopesOf(request: FastifyRequest): string[] {
  const target = distributionTarget(request)
  if (target?.kind === 'catalog') return [formatScope(catalogScope)]
  // A header cannot carry whatever somebody may call a repository.
  if (!target || !('name' in target) || !isName(target.name)) return []
  return [formatScope(scopeFor(actionOf(request.method, target), target.name))]
}

/** What a request for something in a repository needs. */
function actionOf(method: string, { kind }: Target): Action {
  if (method === 'GET' || method === 'HEAD' || method === 'OPTIONS') {
    return kind === 'upload' ? 'push' : 'pull'
  }
  return method === 'DELETE' && kind !== 'upload' ? 'delete' : 'push'
}

/** As the client wrote it, so that it may send its credentials there. */
function originOf({ host, protocol, headers }: FastifyRequest): string {
  const isTls = protocol === 'https' || headers['x-forwarded-proto'] === 'https'
  const named = /^[\w.:[\]-]{1,255}$/.test(host) ? host : 'localhost'
  return `${isTls ? 'https' : 'http'}://${named}`
}
