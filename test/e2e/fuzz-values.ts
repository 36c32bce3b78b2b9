import { digestOf } from '../../core/digest.ts'

/** Numbers and choices of one fuzzer; all of them come from its seed. */
export interface Dice {
  /** In [0, 1). */
  roll(): number
  chance(probability: number): boolean
  /** In [0, limit), whole. */
  below(limit: number): number
  pick<T>(values: readonly [T, ...T[]]): T
  bytes(size: number): Buffer
  /** Whether texts are to be damaged now. */
  isWild(): boolean
  /** `make` without damage where `isTame`. */
  tamed<T>(isTame: boolean, make: () => T): T
}

export function createDice(roll: () => number): Dice {
  const below = (limit: number) => Math.floor(roll() * limit)
  let wild = true
  return {
    roll,
    chance: (probability) => roll() < probability,
    below,
    pick: (values) => values[below(values.length)] ?? values[0],
    bytes: (size) => Buffer.from(Array.from({ length: size }, () => below(256))),
    isWild: () => wild,
    tamed(isTame, make) {
      wild = !isTame
      const made = make()
      wild = true
      return made
    },
  }
}

/** What the fuzzer has put into the server, so that its requests also get somewhere. */
export interface Known {
  readonly names: [string, ...string[]]
  readonly tags: [string, ...string[]]
  readonly blobs: [Buffer, ...Buffer[]]
  readonly manifests: [Buffer, ...Buffer[]]
  /** Paths of upload sessions. */
  readonly sessions: string[]
}

const oddText = [
  '',
  '.',
  '..',
  '../..',
  '%2e%2e%2f',
  '%252e',
  '%00',
  '%',
  '%zz',
  '%c0%af',
  '%F0%9F%98%80',
  '\u00e9',
  'A',
  '_',
  '-',
  'a/',
  '/a',
  'a//b',
  'a\\b',
  'a b',
  '*',
  '?',
  '#',
  ';x=1',
  ':',
  '@',
  'null',
  'undefined',
  '__proto__',
  'constructor',
  '\'"<>',
  '${1}',
  '0',
  '-1',
  '99999999999999999999',
  '1e9',
  '0x10',
  'NaN',
  'x'.repeat(300),
  'x'.repeat(9000),
] as const satisfies readonly string[]

/** A text with a few of its characters changed, doubled or removed. */
export function mutated(text: string, dice: Dice): string {
  let result = text
  for (let count = 1 + dice.below(3); count > 0; count -= 1) {
    const at = dice.below(result.length + 1)
    const piece = dice.chance(0.5) ? dice.pick(oddText) : String.fromCharCode(dice.below(256))
    const removed = dice.chance(0.5) ? dice.below(4) : 0
    result = result.slice(0, at) + piece + result.slice(at + removed)
  }
  return result
}

/** Mostly `text`, at times something near it, at times something else. */
export function perhaps(text: string, dice: Dice): string {
  if (!dice.isWild()) return text
  const roll = dice.roll()
  if (roll < 0.75) return text
  return roll < 0.9 ? mutated(text, dice) : dice.pick(oddText)
}

export function someDigest(known: Known, dice: Dice): string {
  const bytes = dice.pick([...known.blobs, ...known.manifests])
  const text =
    dice.isWild() && dice.chance(0.2)
      ? `sha256:${dice.bytes(32).toString('hex')}`
      : digestOf(bytes, dice.chance(0.3) ? 'sha512' : 'sha256')
  return perhaps(text, dice)
}

const ranges = [
  'bytes=0-9',
  'bytes=-5',
  'bytes=5-',
  'bytes=0-1,3-4',
  'bytes=9-1',
  'lines=1-2',
] as const

const headerValues: Readonly<Record<string, readonly [string, ...string[]]>> = {
  'content-type': [
    'application/octet-stream',
    'application/json',
    'application/vnd.oci.image.manifest.v1+json',
    'application/vnd.oci.image.index.v1+json',
    'application/vnd.docker.distribution.manifest.v2+json',
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'application/json; charset=latin1',
    ';',
  ],
  range: ranges,
  'if-range': ['"x"', 'W/"x"', 'Wed, 21 Oct 2015 07:28:00 GMT'],
  'if-none-match': ['*', '"x", W/"y"', ','],
  'content-range': ['0-9', '10-19', '0-0', 'bytes 0-9/10', '9-0', '5-14'],
  accept: ['*/*', 'application/vnd.oci.image.manifest.v1+json', 'text/html;q=x'],
  authorization: ['Bearer x.y.z', 'Basic !!!!', 'Basic dTpw', 'Digest x', 'Bearer '],
  expect: ['100-continue', 'the-moon'],
  origin: ['null', 'http://localhost', 'https://evil.example'],
  connection: ['close', 'keep-alive, upgrade', 'content-length'],
  upgrade: ['h2c', 'websocket'],
  'x-request-id': ['a', 'two words'],
  traceparent: ['00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', 'x'],
  'idempotency-key': ['k', ''],
  'x-forwarded-for': ['127.0.0.1', 'x'],
  'accept-version': ['1.0.0'],
  'content-encoding': ['gzip', 'br'],
  te: ['trailers'],
  cookie: ['a=b'],
}

/** A few header lines beside those that make a request one. */
export function someHeaders(isWild: boolean, dice: Dice): string[] {
  if (!isWild) return dice.chance(0.3) ? [`range: ${dice.pick(ranges)}`] : []
  const lines: string[] = []
  for (const [name, values] of Object.entries(headerValues)) {
    if (!dice.chance(name === 'content-type' ? 0.2 : 0.08)) continue
    lines.push(`${name}: ${perhaps(dice.pick(values), dice).replaceAll(/[\r\n]/g, '')}`)
  }
  return lines
}

const queryKeys = [
  'digest',
  'mount',
  'from',
  'n',
  'last',
  'tag',
  'artifactType',
  'digest-algorithm',
  'ns',
  'replace',
  'state',
  'limit',
  'service',
  'scope',
] as const

export function someQuery(known: Known, dice: Dice): string {
  if (dice.chance(0.5)) return ''
  const pairs = Array.from({ length: 1 + dice.below(3) }, () => {
    const key = dice.pick(queryKeys)
    const values: Readonly<Record<string, string>> = {
      digest: someDigest(known, dice),
      mount: someDigest(known, dice),
      from: dice.pick(known.names),
      tag: dice.pick(known.tags),
      last: dice.pick(known.tags),
      'digest-algorithm': dice.pick(['sha256', 'sha512', 'md5']),
    }
    return `${perhaps(key, dice)}=${perhaps(values[key] ?? dice.pick(['1', '0', '100', 'x']), dice)}`
  })
  return `?${pairs.join('&')}`
}
