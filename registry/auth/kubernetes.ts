import { readFile } from 'node:fs/promises'
import { LRUCache } from 'lru-cache'
import { Agent, request } from 'undici'
import { z } from 'zod'
import { CodedError } from '../../core/errors.ts'
import { issuerOf } from './oidc.ts'
import { secretName, tokenOf, type Identity, type Provider } from './identity.ts'

export interface KubernetesOptions {
  /** The API server, `https://…`. */
  readonly api: string
  readonly audience: string
  /** Certificates (PEM) of the API server. */
  readonly ca: string
  /** File of this pod's own token; it is replaced while we run. */
  readonly tokenFile: string
}

/** A token that is taken back is refused after so long. */
const acceptedMs = 60_000
const refusedMs = 10_000
const mostRemembered = 10_000
const timeoutMs = 10_000

/** @see Kubernetes API authentication.k8s.io/v1 TokenReview */
const reviewSchema = z.looseObject({
  status: z.looseObject({
    authenticated: z.boolean().default(false),
    audiences: z.array(z.string()).default([]),
    user: z
      .looseObject({
        username: z.string().default(''),
        groups: z.array(z.string()).default([]),
      })
      .optional(),
  }),
})

/**
 * Tokens of Kubernetes service accounts, as Bearer or as the password of any name: the cluster is
 * asked about each. Throws UNAVAILABLE where it does not answer.
 */
export function createKubernetesProvider(options: KubernetesOptions): Provider & AsyncDisposable {
  const { api, audience, ca, tokenFile } = options
  const agent = new Agent({
    connect: { ca, timeout: timeoutMs },
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
  })
  const known = new LRUCache<string, { readonly identity: Identity | undefined }>({
    max: mostRemembered,
  })
  const asking = new Map<string, Promise<Identity | undefined>>()

  async function review(token: string): Promise<Identity | undefined> {
    const ours = (await readFile(tokenFile, 'utf8')).trim()
    const { statusCode, body } = await request(
      new URL('/apis/authentication.k8s.io/v1/tokenreviews', api),
      {
        dispatcher: agent,
        method: 'POST',
        headers: { authorization: `Bearer ${ours}`, 'content-type': 'application/json' },
        body: JSON.stringify({
          apiVersion: 'authentication.k8s.io/v1',
          kind: 'TokenReview',
          spec: { token, audiences: [audience] },
        }),
      },
    )
    const text = await body.text()
    if (statusCode !== 200 && statusCode !== 201) {
      throw new Error(`it answered ${statusCode}; may this pod create tokenreviews?`)
    }
    const { status } = reviewSchema.parse(JSON.parse(text))
    // A cluster that does not know audiences names none: then the token may be meant for others.
    if (!status.authenticated || !status.audiences.includes(audience)) return undefined
    return accountOf(status.user?.username ?? '')
  }

  async function ask(token: string, key: string): Promise<Identity | undefined> {
    const identity = await review(token).catch((error: unknown) => {
      const reason = error instanceof Error ? error.message : 'unknown'
      throw new CodedError('UNAVAILABLE', `cannot ask Kubernetes about a token: ${reason}`, {
        cause: error,
      })
    })
    known.set(key, { identity }, { ttl: identity ? acceptedMs : refusedMs })
    return identity
  }

  const provider: Provider = async (credentials) => {
    const token = tokenOf(credentials)
    // Every service account's token is a JWT; passwords are nothing to send anywhere.
    if (token === undefined || issuerOf(token) === undefined) return undefined
    const key = secretName(token)
    const remembered = known.get(key)
    if (remembered) return remembered.identity
    let answer = asking.get(key)
    if (!answer) {
      answer = ask(token, key).finally(() => asking.delete(key))
      asking.set(key, answer)
    }
    return answer
  }
  return Object.assign(provider, { [Symbol.asyncDispose]: () => agent.close() })
}

/** Users of the cluster that are not service accounts are nobody here. */
function accountOf(username: string): Identity | undefined {
  const [, namespace, name] =
    /^system:serviceaccount:([a-z0-9-]+):([a-z0-9.-]+)$/.exec(username) ?? []
  if (namespace === undefined || name === undefined) return undefined
  return { kind: 'serviceaccount', name: `${namespace}/${name}`, groups: [] }
}
