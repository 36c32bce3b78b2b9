import { GetObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { getSignedUrl, S3RequestPresigner } from '@aws-sdk/s3-request-presigner'
import { LRUCache } from 'lru-cache'
import { Agent, request } from 'undici'
import { CodedError } from '../../core/errors.ts'
import type { ByteRange } from '../../core/registry.ts'
import { pause } from '../../core/retry.ts'
import { buffers } from '../buffers.ts'
import { clientConfig, trust, type S3, type S3Settings } from './s3-client.ts'
import { NoAnswerError, toStorageError } from './s3-errors.ts'
import { getBySocket, type Answer } from './s3-socket.ts'
import { checkKey } from './storage-key.ts'

/** How long a signed URL of ours can be used, and how long we do. */
const lifetimeS = 15 * 60
const reuseMs = 5 * 60 * 1000
const keptUrls = 2_000

/** Shorter reads are better made on a connection that is open already. */
const socketBytes = 1024 * 1024

export interface S3Reader extends AsyncDisposable {
  /**
   * The bytes of `range` of the object under our `key`; a chunk is valid until the next one is
   * asked for. A connection that breaks is replaced by one that goes on where it broke, at the same
   * version. Throws UNKNOWN where bytes are missing, UNAVAILABLE where the storage stays away.
   */
  read(key: string, range: ByteRange, signal: AbortSignal): AsyncIterable<Uint8Array>
  /** A URL that anyone can GET the object from, at the endpoint for clients outside. */
  publicUrl(
    key: string,
    options: { readonly lifetimeS: number; readonly contentType: string },
  ): Promise<string>
  /** What the storage's clock says, ms since 1970; NaN where it says nothing. */
  now(): Promise<number>
}

/** Reads by plain HTTP on signed URLs: the SDK's streams take several times the work. */
export function createS3Reader(s3: S3, settings: S3Settings): S3Reader {
  const agent = new Agent({ connect: { timeout: 5_000, ...trust(settings.ca) } })
  const { publicEndpoint } = settings
  const publicClient =
    publicEndpoint === undefined ? s3.client : new S3Client(clientConfig(settings, publicEndpoint))
  const sign = createSigner(s3)
  const urls = new LRUCache<string, URL>({ max: keptUrls, ttl: reuseMs })

  async function urlOf(key: string): Promise<URL> {
    const known = urls.get(key)
    if (known) return known
    const signed = await sign(key)
    urls.set(key, signed)
    return signed
  }

  async function get(key: string, range: ByteRange, etag: string | undefined, signal: AbortSignal) {
    const url = await urlOf(key)
    const headers = {
      range: `bytes=${range.start}-${range.end - 1}`,
      ...(etag === undefined ? {} : { 'if-match': etag }),
    }
    const options = { headers, signal, idleMs: s3.patience.idleMs }
    const isLong = range.end - range.start >= socketBytes
    return isLong && url.protocol === 'http:'
      ? getBySocket(url, options)
      : getByAgent(url, agent, options)
  }

  /** An answer that holds exactly the bytes asked for. */
  function open(key: string, range: ByteRange, etag: string | undefined, signal: AbortSignal) {
    let isRefused = false
    return s3.call(
      `read ${key}`,
      async () => {
        // With the caller's signal: the answer outlives the attempt, and limits its own silence.
        const answer = await get(key, range, etag, signal)
        if (answer.status === 206 && isOf(answer, range)) return answer
        await answer[Symbol.asyncDispose]()
        // Credentials that were renewed leave URLs that are too old.
        urls.delete(key)
        const wasRefused = isRefused
        isRefused = answer.status === 403
        throw refusal(answer, key, isRefused && !wasRefused)
      },
      { signal },
    )
  }

  return {
    async *read(key, { start, end }, signal) {
      let position = start
      let etag: string | undefined
      let breaks = 0
      while (position < end) {
        const before = position
        await using answer = await open(key, { start: position, end }, etag, signal)
        etag ??= answer.header('etag')
        let broken: unknown
        const chunks = answer.body[Symbol.asyncIterator]()
        while (position < end) {
          const next = await chunks.next().catch((error: unknown) => {
            signal.throwIfAborted()
            broken = error
          })
          if (!next || next.done === true) break
          const chunk = next.value.subarray(0, end - position)
          position += chunk.length
          yield chunk
        }
        if (position >= end) return
        breaks = position > before ? 0 : breaks + 1
        const delayMs = s3.patience.retryDelaysMs[breaks]
        if (delayMs === undefined) {
          const why = broken instanceof Error ? broken.message : 'the connection was closed'
          throw toStorageError(new NoAnswerError(why, { cause: broken }), `read ${key}`)
        }
        await pause(delayMs, signal)
      }
    },
    publicUrl: (key, { lifetimeS: expiresIn, contentType }) =>
      getSignedUrl(
        publicClient,
        new GetObjectCommand({ ...s3.place(key), ResponseContentType: contentType }),
        { expiresIn },
      ),
    now: () =>
      s3.call('ask for the time', async ({ abortSignal: signal }) => {
        const { body, headers } = await request(await urlOf('layout.json'), {
          dispatcher: agent,
          signal,
        })
        await body.dump()
        return Date.parse(String(headers['date']))
      }),
    async [Symbol.asyncDispose]() {
      if (publicClient !== s3.client) publicClient.destroy()
      await agent.destroy()
    },
  }
}

/**
 * Signs GETs of our keys for `lifetimeS`. The SDK says once where the bucket is; asking it for every
 * key takes more memory and time than the read of a small object.
 */
function createSigner({ client, place }: S3): (key: string) => Promise<URL> {
  const { credentials, region, sha256 } = client.config
  const presigner = new S3RequestPresigner({ credentials, region, sha256 })
  let bucket: Promise<URL> | undefined

  async function findBucket(): Promise<URL> {
    const signed = new URL(await getSignedUrl(client, new GetObjectCommand(place('x'))))
    return new URL(`${signed.origin}${signed.pathname.slice(0, -'x'.length)}`)
  }

  return async (key) => {
    bucket ??= findBucket().catch((error: unknown) => {
      bucket = undefined
      throw error
    })
    const { protocol, hostname, port, host, pathname } = await bucket
    const path = pathname + checkKey(key)
    const { query = {} } = await presigner.presign(
      {
        method: 'GET',
        protocol,
        hostname,
        path,
        query: {},
        headers: { host },
        ...(port === '' ? {} : { port: Number(port) }),
      },
      { expiresIn: lifetimeS },
    )
    const url = new URL(`${protocol}//${host}${path}`)
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, String(value))
    return url
  }
}

function isOf(answer: Answer, { start, end }: ByteRange): boolean {
  const said = /^bytes (\d+)-(\d+)\//.exec(answer.header('content-range') ?? '')
  return Number(said?.[1]) === start && Number(said?.[2]) === end - 1
}

function refusal({ status }: Answer, key: string, mayPass: boolean): Error {
  const said = `the S3 storage answered ${status}`
  if (mayPass || status >= 500 || status === 429) return new NoAnswerError(said)
  if (status === 403) return Object.assign(new Error(said), { name: 'AccessDenied' })
  const why = status === 404 ? 'it is missing' : `bytes are missing or others (${said})`
  return new CodedError('UNKNOWN', `cannot read ${key}: ${why}`)
}

async function getByAgent(
  url: URL,
  dispatcher: Agent,
  options: Parameters<typeof getBySocket>[1],
): Promise<Answer> {
  const { headers, signal, idleMs } = options
  const timeouts = { headersTimeout: idleMs, bodyTimeout: idleMs }
  const response = await request(url, { dispatcher, headers, signal, ...timeouts })
  const { body } = response
  // Destroying it with bytes left makes an error that nobody waits for.
  body.on('error', () => {})
  const buffer = buffers.take()
  return {
    status: response.statusCode,
    header(name) {
      const value = response.headers[name]
      return Array.isArray(value) ? value[0] : value
    },
    body: gathered(body, buffer),
    async [Symbol.asyncDispose]() {
      body.destroy()
      buffers.giveBack(buffer)
    },
  }
}

/** The same bytes in larger chunks, which lie in `buffer` one after the other. */
async function* gathered(
  body: AsyncIterable<Uint8Array>,
  buffer: Buffer,
): AsyncGenerator<Uint8Array, void> {
  let filled = 0
  for await (const chunk of body) {
    for (let rest = chunk; rest.length > 0;) {
      const part = rest.subarray(0, buffer.length - filled)
      buffer.set(part, filled)
      filled += part.length
      rest = rest.subarray(part.length)
      if (filled === buffer.length) {
        yield buffer
        filled = 0
      }
    }
  }
  if (filled > 0) yield buffer.subarray(0, filled)
}
