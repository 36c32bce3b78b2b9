import { randomBytes } from 'node:crypto'
import { digestOf, type DigestAlgorithm } from '../../core/digest.ts'
import { mediaTypes } from '../../core/manifest.ts'

/** One request to the registry under test; redirects are not followed. */
export type Send = (
  method: string,
  path: string,
  options?: { readonly body?: Uint8Array; readonly headers?: Readonly<Record<string, string>> },
) => Promise<Answer>

export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly body: Buffer
}

/** `path` may also be a `Location` as a registry answered it. */
export function createSend(url: string): Send {
  return async (method, path, { body, headers = {} } = {}) => {
    const response = await fetch(new URL(path, url), {
      method,
      headers: { ...(body ? { 'content-type': 'application/octet-stream' } : {}), ...headers },
      ...(body ? { body: Buffer.from(body) } : {}),
      redirect: 'manual',
    })
    return {
      status: response.status,
      headers: response.headers,
      body: Buffer.from(await response.arrayBuffer()),
    }
  }
}

export function locationOf({ headers }: Answer): string {
  return headers.get('location') ?? ''
}

/** A location with `digest` added to whatever query it has. */
export function withDigest(location: string, digest: string): string {
  return `${location}${location.includes('?') ? '&' : '?'}digest=${encodeURIComponent(digest)}`
}

export async function startUpload(send: Send, name: string): Promise<string> {
  return locationOf(await send('POST', `/v2/${name}/blobs/uploads/`))
}

export interface SampleBlob {
  readonly bytes: Buffer
  readonly digest: string
}

export function sampleBlob(size: number, algorithm: DigestAlgorithm = 'sha256'): SampleBlob {
  const bytes = randomBytes(size)
  return { bytes, digest: digestOf(bytes, algorithm) }
}

export async function pushBlob(send: Send, name: string, blob: SampleBlob): Promise<Answer> {
  const location = await startUpload(send, name)
  return send('PUT', withDigest(location, blob.digest), { body: blob.bytes })
}

/** An image manifest over a pushed config; the fields given replace or join the usual ones. */
export async function pushImage(
  send: Send,
  name: string,
  reference: (digest: string) => string,
  fields: Readonly<Record<string, unknown>> = {},
) {
  const config = sampleBlob(30)
  await pushBlob(send, name, config)
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaTypes.ociManifest,
      config: { mediaType: mediaTypes.ociConfig, digest: config.digest, size: 30 },
      layers: [],
      ...fields,
    }),
  )
  const digest = digestOf(bytes)
  const answer = await send('PUT', `/v2/${name}/manifests/${reference(digest)}`, {
    body: bytes,
    headers: { 'content-type': mediaTypes.ociManifest },
  })
  return { answer, bytes, digest }
}

/** The error code of a body in the spec's form. */
export function errorCodeOf({ body }: Answer): unknown {
  const parsed: unknown = JSON.parse(body.toString())
  const errors: unknown = Object(parsed).errors
  return Array.isArray(errors) ? Object(errors[0]).code : undefined
}

/** The registry under test and a repository name that nobody has used. */
export interface Subject {
  readonly name: string
  readonly send: Send
}
