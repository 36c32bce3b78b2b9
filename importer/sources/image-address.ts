import { CodedError } from '../../core/errors.ts'
import { isLoopback } from '../../core/loopback.ts'
import { withoutSecrets } from './http-request.ts'
import { formatImageReference, parseImageReference } from '../../core/reference.ts'
import type { Reference } from '../../core/reference.ts'

/** An image on a registry. */
export interface ImageAddress {
  readonly registry: URL
  /** As docker's config names it. */
  readonly loginHost: string
  readonly name: string
  readonly reference: Reference
  /** The whole address, with what was left out. */
  readonly label: string
}

export const imageScheme = 'docker://'

const dockerHub = 'docker.io'

/**
 * `docker://host[:port]/name[:tag|@digest]`; without a host Docker Hub. Plain HTTP to this machine,
 * as docker has it, HTTPS elsewhere. Throws SOURCE_INVALID.
 */
export function parseImageAddress(text: string): ImageAddress {
  const rest = text.slice(imageScheme.length)
  const slash = rest.indexOf('/')
  const first = rest.slice(0, Math.max(0, slash))
  const hasHost = /[.:]/.test(first) || first === 'localhost'
  const host = hasHost ? first.toLowerCase() : dockerHub
  const path = hasHost ? rest.slice(slash + 1) : rest
  const isHub = host === dockerHub || host === `index.${dockerHub}`
  // Those without a name of their own are Docker's.
  const { name, reference } = parsePath(
    isHub && !path.includes('/') ? `library/${path}` : path,
    text,
  )
  const bare = host.replace(/:\d+$/, '').replace(/^\[|\]$/g, '')
  const scheme = isLoopback(bare) ? 'http' : 'https'
  const registry = URL.parse(`${scheme}://${isHub ? `registry-1.${dockerHub}` : host}`)
  // The parser takes other spellings of addresses, and names that none has.
  const isPlain = /^(?:[a-z0-9][a-z0-9.-]*|\[[0-9a-f:]+\])(?::\d+)?$/.test(host)
  if (!registry || !isPlain || (!isHub && registry.hostname !== host.replace(/:\d+$/, ''))) {
    throw invalid(text, 'host')
  }
  const label = `${imageScheme}${host}/${formatImageReference({ name, reference })}`
  return { registry, loginHost: isHub ? `index.${dockerHub}` : host, name, reference, label }
}

function parsePath(path: string, text: string) {
  try {
    return parseImageReference(path)
  } catch (error) {
    throw invalid(text, 'name', error)
  }
}

const invalid = (text: string, what: string, cause?: unknown): CodedError =>
  new CodedError(
    'SOURCE_INVALID',
    `not the address of an image (its ${what}): ${JSON.stringify(withoutSecrets(text))}; expected docker://host/name:tag`,
    { cause },
  )
