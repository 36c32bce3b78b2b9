import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { connectTcp, readToEnd } from '../fixtures/tcp.ts'

/** One HTTP/1.1 answer as it came. */
export interface RawAnswer {
  readonly status: number
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>
  readonly body: Buffer
}

/** Error bodies of the spec. @see OCI distribution-spec §error-codes */
const errorBody = z.object({
  errors: z
    .array(z.object({ code: z.string().regex(/^[A-Z_]+$/), message: z.string().min(1) }))
    .min(1),
})

/** What the specification lists; under `/v2/` clients know no others. */
const specCodes = new Set(
  `BLOB_UNKNOWN BLOB_UPLOAD_INVALID BLOB_UPLOAD_UNKNOWN DIGEST_INVALID MANIFEST_BLOB_UNKNOWN
  MANIFEST_INVALID MANIFEST_UNKNOWN NAME_INVALID NAME_UNKNOWN SIZE_INVALID UNAUTHORIZED DENIED
  UNSUPPORTED TOOMANYREQUESTS`.split(/\s+/),
)

/** Codes that clients of the spec get beside those of its list: what it has no word for. */
const tolerated = new Set(['RANGE_INVALID', 'TAG_INVALID', 'STORAGE_FULL', 'UNAVAILABLE'])

/**
 * Sends the bytes on a connection of their own and reads until the server closes it, or for
 * `patienceMs`. A request should ask for `connection: close`.
 */
export async function exchange(
  port: number,
  bytes: string | Uint8Array,
  { patienceMs = 20_000 }: { readonly patienceMs?: number } = {},
): Promise<{ readonly text: string; readonly isClosed: boolean }> {
  const socket = await connectTcp(port)
  const reading = readToEnd(socket)
  socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes)
  const late = new AbortController()
  const patience = sleep(patienceMs, 'late', { signal: late.signal }).catch(() => 'late')
  const first = await Promise.race([reading, patience.then(() => undefined)])
  late.abort()
  // Ends the reading, which answers with what has come.
  if (first === undefined) socket.destroy()
  return { text: first ?? (await reading), isClosed: first !== undefined }
}

/** The answers in `text`, one after the other; throws where a byte of it is none of an answer. */
export function parseAnswers(text: string, methods: readonly string[] = []): RawAnswer[] {
  const answers: RawAnswer[] = []
  let rest = text
  while (rest !== '') {
    const end = rest.indexOf('\r\n\r\n')
    const [line = '', ...fields] = rest.slice(0, end).split('\r\n')
    const [, status = ''] = /^HTTP\/1\.1 (\d{3})(?: |$)/.exec(line) ?? []
    if (end < 0 || status === '') throw new Error(`no answer: ${rest.slice(0, 300)}`)
    const headers = new Map(fields.map((field) => fieldOf(field)))
    const isInterim = status.startsWith('1')
    const start = end + 4
    // What cannot be read is answered with a body, whatever its method was meant to be.
    const isHead = methods[answers.length] === 'HEAD' && !rest.startsWith('{', start)
    const hasBody = !isInterim && !isHead && !/^(?:204|304)$/.test(status)
    const length = hasBody ? Number(headers.get('content-length') ?? 0) : 0
    if (rest.length < start + length) throw new Error(`cut answer: ${rest.slice(0, 300)}`)
    const body = Buffer.from(rest.slice(start, start + length), 'latin1')
    if (!isInterim) answers.push({ status: Number(status), headers, body })
    rest = rest.slice(start + length)
  }
  return answers
}

function fieldOf(line: string): [string, string] {
  const [, name = '', value = ''] = /^([\w-]+): ?(.*)$/.exec(line) ?? []
  if (name === '') throw new Error(`not a header: ${line.slice(0, 100)}`)
  return [name.toLowerCase(), value]
}

/**
 * What every answer must be, whatever was asked: no fault of the server, and an error body of the
 * spec for every refusal. Answers the reason where it is not so.
 */
export function faultOf(
  { status, headers, body }: RawAnswer,
  { method, path }: { readonly method: string; readonly path: string },
): string | undefined {
  if (status >= 500 && status !== 503 && status !== 507) return `status ${status}: ${String(body)}`
  if (status < 400 || method === 'HEAD') return undefined
  if (!headers.get('content-type')?.startsWith('application/json')) return `${status} without JSON`
  const parsed = errorBody.safeParse(parseJson(body))
  if (!parsed.success) return `${status} without an error body: ${String(body).slice(0, 200)}`
  const code = parsed.data.errors[0]?.code ?? ''
  const isKnown = !/^\/v2(?:\/|$)/.test(path) || specCodes.has(code) || tolerated.has(code)
  return isKnown ? undefined : `${status} with ${code}, which the spec does not know`
}

function parseJson(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString())
  } catch {
    return undefined
  }
}
