import { CodedError } from './errors.ts'
import type { HashPool } from './hash-pool.ts'
import type { HttpClient } from './http-client.ts'

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

/** Sends all of `body` into the upload at `at`; answers where it continues. @see §end-5 */
export async function sendUpload(
  at: string,
  body: AsyncIterable<Uint8Array>,
  http: HttpClient,
  signal: AbortSignal,
): Promise<string> {
  const response = await http.send(at, {
    method: 'PATCH',
    headers: { 'content-type': 'application/octet-stream' },
    body,
    signal,
    accept: [202],
  })
  await response.body.dump()
  return location(response.headers['location'])
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
