import { CodedError } from './errors.ts'
import type { HashPool } from './hash-pool.ts'
import type { HttpClient } from './http-client.ts'
import type { ByteRange } from './registry.ts'

export interface RemoteBlobDeps {
  readonly http: HttpClient
  readonly hashPool: HashPool
  readonly scratchFolder: string
}

/** Opens an upload and answers where it continues. @see OCI distribution-spec §end-4a */
export async function startUpload(
  root: string,
  http: HttpClient,
  signal: AbortSignal,
): Promise<string> {
  const response = await http.send(`${root}/blobs/uploads/`, {
    method: 'POST',
    body: new Uint8Array(0),
    signal,
    accept: [202],
  })
  await response.body.dump()
  return location(response.headers['location'])
}

/**
 * Sends all of `body` into the upload at `at`, which has the bytes before `range`, where that is
 * given; answers where it continues. @see §end-5
 */
export async function sendUpload(
  at: string,
  body: AsyncIterable<Uint8Array>,
  http: HttpClient,
  signal: AbortSignal,
  range?: ByteRange,
): Promise<string> {
  const response = await http.send(at, {
    method: 'PATCH',
    headers: {
      'content-type': 'application/octet-stream',
      ...(range && {
        'content-range': `${range.start}-${range.end - 1}`,
        'content-length': String(range.end - range.start),
      }),
    },
    body,
    signal,
    accept: [202],
  })
  await response.body.dump()
  return location(response.headers['location'])
}

/**
 * How far the upload at `at` is, and where it continues; `undefined` where the registry does not
 * know it any more, or not how far it is. @see §end-13
 */
export async function askUpload(
  at: string,
  http: HttpClient,
  signal: AbortSignal,
): Promise<{ readonly at: string; readonly offset: number } | undefined> {
  const response = await http.send(at, { method: 'GET', signal, accept: [204, 400, 404] })
  await response.body.dump()
  const last = /^0-(\d{1,15})$/.exec(String(response.headers['range'] ?? ''))?.[1]
  // `0-0` is one byte or none.
  if (response.statusCode !== 204 || last === undefined || last === '0') return undefined
  return { at: location(response.headers['location'] ?? at), offset: Number(last) + 1 }
}

/** Makes the upload the blob `digest`; the registry refuses it where the bytes differ. @see §end-6 */
export async function endUpload(
  at: string,
  digest: string,
  http: HttpClient,
  signal: AbortSignal,
): Promise<void> {
  const query = `${at.includes('?') ? '&' : '?'}digest=${encodeURIComponent(digest)}`
  const response = await http.send(`${at}${query}`, {
    method: 'PUT',
    body: new Uint8Array(0),
    signal,
    accept: [201],
  })
  await response.body.dump()
}

/** Best effort: a registry forgets abandoned uploads by itself. */
export async function cancelUpload(at: string, http: HttpClient): Promise<void> {
  await http
    .send(at, { method: 'DELETE', accept: [204, 404, 405] })
    .then((response) => response.body.dump())
    .catch(() => {})
}

function location(header: unknown): string {
  if (typeof header === 'string') return header
  throw new CodedError('TARGET_UNAVAILABLE', 'the registry did not say where the upload continues')
}
