import { mediaTypes } from '../../core/manifest.ts'

/** One request to the registry under test. `path` may also be a `Location` as it answered it. */
export type Send = (method: string, path: string, options?: SendOptions) => Promise<Answer>

export interface SendOptions {
  /** Sent with its length; an iterable is sent without one. */
  readonly body?: Uint8Array | AsyncIterable<Uint8Array>
  readonly headers?: Readonly<Record<string, string>>
}

export interface Answer {
  readonly method: string
  readonly status: number
  readonly headers: Headers
  readonly body: Buffer
}

/** Some registries answer a manifest in an older form to who does not name its type. */
const manifestTypes = [
  mediaTypes.ociManifest,
  mediaTypes.ociIndex,
  mediaTypes.dockerManifest,
  mediaTypes.dockerList,
].join(', ')

/** `headers` go with every request, as `Authorization` does. Redirects are followed. */
export function createSend(url: string, headers: Readonly<Record<string, string>> = {}): Send {
  return async (method, path, options = {}) => {
    const { body } = options
    const response = await fetch(new URL(path, url), {
      method,
      headers: {
        // An answer compressed on the way would have another length.
        'accept-encoding': 'identity',
        accept: `${manifestTypes}, */*`,
        ...(body ? { 'content-type': 'application/octet-stream' } : {}),
        ...headers,
        ...options.headers,
      },
      ...(body ? { body: body instanceof Uint8Array ? Buffer.from(body) : body } : {}),
      ...(body ? { duplex: 'half' } : {}),
    })
    return {
      method,
      status: response.status,
      headers: response.headers,
      body: Buffer.from(await response.arrayBuffer()),
    }
  }
}

/** Where the answer says that it goes on, or the thing made is; fails without it. */
export function locationOf({ method, status, headers }: Answer): string {
  const location = headers.get('location')
  if (location === null) throw new Error(`${method} answered ${status} without Location`)
  return location
}

/** A location with `digest` added to whatever query it has. */
export function withDigest(location: string, digest: string): string {
  return `${location}${location.includes('?') ? '&' : '?'}digest=${encodeURIComponent(digest)}`
}

/** The `rel="next"` of an answer's `Link`. @see RFC 8288 */
export function nextOf({ headers }: Answer): string | undefined {
  return /<([^>]+)>\s*;\s*rel="?next"?/.exec(headers.get('link') ?? '')?.[1]
}
