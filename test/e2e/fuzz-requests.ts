import { digestOf } from '../../core/digest.ts'
import {
  mutated,
  perhaps,
  someDigest,
  someHeaders,
  someQuery,
  type Dice,
  type Known,
} from './fuzz-values.ts'

/** One request as bytes. */
export interface FuzzRequest {
  readonly method: string
  readonly path: string
  readonly bytes: Buffer
  /** The bytes are as HTTP says, whatever they ask for. */
  readonly isFramed: boolean
}

/** A request that makes sense, as far as `dice` is not wild. */
interface Draft {
  readonly method: string
  readonly path: string
  readonly body?: Buffer
  readonly type?: string
}

type Make = (known: Known, dice: Dice) => Draft

const manifestType = 'application/vnd.oci.image.manifest.v1+json'
const methods = ['GET', 'HEAD', 'PUT', 'POST', 'PATCH', 'DELETE', 'OPTIONS'] as const
const oddMethods = ['TRACE', 'PROPFIND', 'QUERY', 'CONNECT', 'FROB', 'get', ''] as const

const name = (known: Known, dice: Dice) => perhaps(dice.pick(known.names), dice)
const reference = (known: Known, dice: Dice) =>
  dice.chance(0.5)
    ? perhaps(dice.pick(known.tags), dice)
    : perhaps(digestOf(dice.pick(known.manifests)), dice)
const session = (known: Known, dice: Dice) => {
  const path = known.sessions[dice.below(known.sessions.length)]
  const unknown = `/v2/${name(known, dice)}/blobs/uploads/00000000-0000-4000-8000-000000000000`
  return perhaps(path ?? unknown, dice)
}
const uploads = (known: Known, dice: Dice) => `/v2/${name(known, dice)}/blobs/uploads/`
const digestIn = (bytes: Buffer, dice: Dice) =>
  perhaps(digestOf(bytes, dice.chance(0.15) ? 'sha512' : 'sha256'), dice)

/** A path with nothing more to it. */
const plain =
  (method: string, path: (known: Known, dice: Dice) => string): Make =>
  (known, dice) => ({ method, path: path(known, dice) })

const blobOf = (known: Known, dice: Dice) =>
  `/v2/${name(known, dice)}/blobs/${digestIn(dice.pick(known.blobs), dice)}`
const manifestOf = (known: Known, dice: Dice) =>
  `/v2/${name(known, dice)}/manifests/${reference(known, dice)}`
const imageOf = (known: Known, dice: Dice) =>
  `/v1/image/${name(known, dice)}%3A${reference(known, dice)}`

const putManifest: Make = (known, dice) => {
  const body = dice.pick(known.manifests)
  const tag = perhaps(dice.pick(known.tags), dice)
  const end = dice.chance(0.7) ? tag : `${digestIn(body, dice)}?tag=${tag}`
  const path = `/v2/${name(known, dice)}/manifests/${end}`
  return { method: 'PUT', path, body, type: manifestType }
}
const pushBlob: Make = (known, dice) => {
  const body = dice.pick(known.blobs)
  const path = `${uploads(known, dice)}?digest=${digestIn(body, dice)}`
  return { method: 'POST', path, body, type: 'application/octet-stream' }
}
const mountBlob: Make = (known, dice) => {
  const mount = `mount=${someDigest(known, dice)}`
  const from = dice.chance(0.8) ? `&from=${name(known, dice)}` : ''
  return { method: 'POST', path: `${uploads(known, dice)}?${mount}${from}` }
}
const append: Make = (known, dice) => {
  const body = dice.pick(known.blobs)
  return { method: 'PATCH', path: session(known, dice), body, type: 'application/octet-stream' }
}
const finish: Make = (known, dice) => {
  const body = dice.pick(known.blobs)
  const path = `${session(known, dice)}?digest=${digestIn(body, dice)}`
  const last = dice.chance(0.7) ? body : Buffer.of()
  return { method: 'PUT', path, body: last, type: 'application/octet-stream' }
}
const newImport: Make = () => {
  const body = Buffer.from('{"source":"http://127.0.0.1:9/x","name":"b/c","tag":"v1"}')
  return { method: 'POST', path: '/v1/imports', body, type: 'application/json' }
}

/** The spec's table of endpoints, and ours. @see OCI distribution-spec §endpoints */
const endpoints: readonly [Make, ...Make[]] = [
  plain('GET', () => '/v2/'),
  ...[1, 2, 3, 4, 5].map(() => plain('GET', blobOf)),
  plain('HEAD', blobOf),
  plain('DELETE', blobOf),
  plain('GET', manifestOf),
  plain('HEAD', manifestOf),
  plain('DELETE', manifestOf),
  putManifest,
  putManifest,
  plain('POST', uploads),
  plain('POST', uploads),
  pushBlob,
  pushBlob,
  mountBlob,
  append,
  append,
  finish,
  finish,
  plain('GET', session),
  plain('DELETE', session),
  plain('GET', (known, dice) => `/v2/${name(known, dice)}/tags/list`),
  plain('GET', (known, dice) => `/v2/${name(known, dice)}/referrers/${someDigest(known, dice)}`),
  plain('GET', () => '/v2/_catalog'),
  plain('GET', () => '/v2/_oci/ext/discover'),
  plain('GET', () => '/v2/token'),
  plain('GET', () => '/v1/images'),
  plain('GET', imageOf),
  plain('DELETE', imageOf),
  plain('PUT', (known, dice) => `${imageOf(known, dice)}/tags/${dice.pick(known.tags)}`),
  plain('GET', () => '/v1/imports'),
  newImport,
  plain('GET', (_known, dice) => `/v1/imports/${perhaps('x', dice)}`),
  plain('GET', () => '/v1/openapi.json'),
  plain('GET', (_known, dice) => dice.pick(['/healthz', '/readyz', '/metrics', '/'])),
]

/** A manifest of known blobs; wild ones are damaged, as JSON still. */
export function someManifest(known: Known, dice: Dice): Buffer {
  const usual = (value: unknown, others: readonly [unknown, ...unknown[]]): unknown =>
    !dice.isWild() || dice.chance(0.9) ? value : dice.pick(others)
  const [config, layer] = [dice.pick(known.blobs), dice.pick(known.blobs)].map((bytes) => ({
    mediaType: 'application/x',
    digest: perhaps(digestOf(bytes), dice),
    size: usual(bytes.length, [-1, 0.5, 1e300, 'x', undefined]),
  }))
  const subject = { ...config, digest: someDigest(known, dice) }
  const manifest = {
    schemaVersion: usual(2, [1, '2', undefined]),
    mediaType: perhaps(manifestType, dice),
    config,
    layers: usual([layer], [{}, undefined, [1], [[]], null]),
    ...(dice.chance(0.3) ? { subject } : {}),
    ...(dice.chance(0.3) ? { artifactType: perhaps('application/y', dice) } : {}),
    ...(dice.chance(0.3) ? { annotations: { [perhaps('a', dice)]: perhaps('b', dice) } } : {}),
  }
  return Buffer.from(JSON.stringify(manifest))
}

function otherBody(known: Known, dice: Dice): Buffer {
  const roll = dice.roll()
  if (roll < 0.3) return Buffer.of()
  if (roll < 0.6) return someManifest(known, dice)
  const text = dice.pick(known.manifests).toString('latin1')
  if (roll < 0.85) return Buffer.from(mutated(text, dice), 'latin1')
  if (roll < 0.88) return Buffer.from('['.repeat(dice.below(100_000)))
  return dice.bytes(dice.below(2000))
}

/** A request for some endpoint; every second one makes sense, the others have something wrong. */
export function someRequest(known: Known, dice: Dice): FuzzRequest {
  const draft = dice.tamed(dice.chance(0.5), () => dice.pick(endpoints)(known, dice))
  const isWild = dice.chance(0.5)
  const odd = dice.pick([...methods, ...oddMethods])
  const method = isWild && dice.chance(0.15) ? odd : draft.method
  const query = isWild ? someQuery(known, dice) : ''
  const path = withQuery(draft.path, query).replaceAll(/\s/g, '%20')
  const body = isWild && dice.chance(0.3) ? otherBody(known, dice) : (draft.body ?? Buffer.of())
  const isChunked = dice.chance(0.15)
  const type = draft.type === undefined ? [] : [`content-type: ${draft.type}`]
  const lines = [
    `${method} ${path} HTTP/1.1`,
    `host: ${isWild && dice.chance(0.05) ? perhaps('localhost', dice) : 'localhost'}`,
    'connection: close',
    isChunked ? 'transfer-encoding: chunked' : `content-length: ${body.length}`,
    ...(isWild && dice.chance(0.3) ? [] : type),
    ...someHeaders(isWild, dice),
  ]
  const head = Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1')
  const whole = Buffer.concat([head, isChunked ? chunked(body, dice) : body])
  const isFramed = !isWild || dice.chance(0.6)
  return { method, path, bytes: isFramed ? whole : damaged(whole, dice), isFramed }
}

function withQuery(path: string, query: string): string {
  return path.includes('?') ? path + query.replace('?', '&') : path + query
}

function chunked(body: Buffer, dice: Dice): Buffer {
  const parts: Buffer[] = []
  for (let at = 0; at < body.length;) {
    const piece = body.subarray(at, at + 1 + dice.below(body.length))
    parts.push(Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from('\r\n'))
    at += piece.length
  }
  return Buffer.concat([...parts, Buffer.from('0\r\n\r\n')])
}

/** The bytes with some of them changed, left out, doubled, or cut off. */
export function damaged(bytes: Buffer, dice: Dice): Buffer {
  const at = dice.below(bytes.length)
  const end = at + dice.below(Math.min(200, bytes.length - at))
  const [before, after] = [bytes.subarray(0, at), bytes.subarray(end)]
  switch (dice.below(5)) {
    case 0:
      return before
    case 1:
      return Buffer.concat([before, after])
    case 2:
      return Buffer.concat([before, bytes.subarray(at, end), bytes.subarray(at)])
    case 3:
      return Buffer.concat([before, dice.bytes(dice.below(50)), after])
    default: {
      const changed = Buffer.from(bytes)
      changed[at] = dice.below(256)
      return changed
    }
  }
}
