import { CodedError } from './errors.ts'

/** What one pattern with braces may stand for; `{a,b}` twice is four. */
const mostAlternatives = 256

/** Takes where in a name a pattern may have come to, and answers where it may be after this piece. */
type Piece = (reached: Uint8Array, name: string) => Uint8Array

/**
 * Whether a name matches one of the globs: `*` within a segment, `**` over segments, `?`, `[a-z]`,
 * `[!a-z]`, `{a,b}`, and a backslash before what means only itself. `**` at the end also stands for
 * nothing: `a/**` matches `a`, though not behind another `*`. The time it takes is in proportion to
 * pattern and name, whatever stands in them: names are chosen by strangers, and one can keep a
 * pattern busy for hours that was made into a regular expression. Throws SETTING_INVALID for a
 * pattern of too many alternatives.
 */
export function createGlobMatcher(patterns: readonly string[]): (name: string) => boolean {
  const globs = patterns.flatMap(alternatives).map(parse)
  return (name) => globs.some((glob) => matches(glob, name))
}

interface Glob {
  /** What all its names begin with. */
  readonly start: string
  readonly rest: readonly Piece[]
}

function matches({ start, rest }: Glob, name: string): boolean {
  if (!name.startsWith(start)) return false
  const end = name.slice(start.length)
  let reached: Uint8Array = new Uint8Array(end.length + 1)
  reached[0] = 1
  for (const piece of rest) {
    reached = piece(reached, end)
    if (!reached.includes(1)) return false
  }
  return reached[end.length] === 1
}

/** The patterns without braces that one stands for. */
function alternatives(pattern: string): string[] {
  const done: string[] = []
  const open = [pattern]
  for (let text; (text = open.pop()) !== undefined;) {
    const [braces, inside] = /\{((?:[^{}\\]|\\.)*,(?:[^{}\\]|\\.)*)\}/.exec(text) ?? []
    if (braces === undefined || inside === undefined) done.push(text)
    else open.push(...inside.split(',').map((one) => text.replace(braces, () => one)))
    if (open.length + done.length > mostAlternatives) {
      throw new CodedError(
        'SETTING_INVALID',
        `the pattern ${JSON.stringify(pattern)} has more than ${mostAlternatives} alternatives; write several patterns`,
      )
    }
  }
  return done
}

function parse(pattern: string): Glob {
  const segments = pattern.split('/').filter((one, at, all) => one !== '**' || all[at - 1] !== '**')
  const pieces = segments.flatMap((segment, at) => {
    const before = segments[at - 1]
    if (segment === '**') return parseFolders(before, at === segments.length - 1)
    // Behind `**` the slash is there already.
    return [...(before === undefined || before === '**' ? [] : ['/']), ...parseSegment(segment)]
  })
  const first = pieces.findIndex((piece) => typeof piece !== 'string')
  const start = first < 0 ? pieces : pieces.slice(0, first)
  const rest = pieces.slice(start.length)
  return {
    start: start.join(''),
    rest: rest.map((one) => (typeof one === 'string' ? letter(one) : one)),
  }
}

function parseFolders(before: string | undefined, isLast: boolean): (string | Piece)[] {
  if (!isLast) return before === undefined ? [folders] : ['/', folders]
  if (before === undefined) return [anything]
  return before.endsWith('*') ? ['/', anything] : [anythingBelow]
}

/** Letters that mean themselves, and the rest. */
function parseSegment(segment: string): (string | Piece)[] {
  const found = segment.matchAll(/(\*+)|(\?)|\[([!^]?)([^\]]+)\]|\\?(.)/gsu)
  return [...found].map(([, star, any, negation, set, plain]) => {
    if (star !== undefined) return withinSegment
    if (any !== undefined) return oneOf((one) => one !== '/')
    if (plain !== undefined) return plain
    const isInSet = rangesOf(set ?? '')
    return oneOf((one) => one !== '/' && isInSet(one) === (negation === ''))
  })
}

/** The letters of `[a-z_]`. */
function rangesOf(set: string): (letter: string) => boolean {
  const ranges = [...set.matchAll(/(.)-(.)|(.)/gsu)].map(
    ([, from, to, alone]) => [from ?? alone ?? '', to ?? alone ?? ''] as const,
  )
  return (letter) => ranges.some(([from, to]) => from <= letter && letter <= to)
}

const oneOf =
  (isOne: (letter: string) => boolean): Piece =>
  (reached, name) =>
    reached.map((_, at) => (at > 0 && reached[at - 1] === 1 && isOne(name[at - 1] ?? '') ? 1 : 0))

const letter = (wanted: string): Piece => oneOf((one) => one === wanted)

const withinSegment: Piece = (reached, name) => {
  let isOpen = 0
  return reached.map((here, at) => (isOpen = here || (name[at - 1] === '/' ? 0 : isOpen)))
}

const anything: Piece = (reached) => {
  let isOpen = 0
  return reached.map((here) => (isOpen ||= here))
}

/** Nothing, or a slash and all that follows. */
const anythingBelow: Piece = (reached, name) => {
  let isOpen = 0
  return reached.map((here, at) => {
    if (at > 0 && reached[at - 1] === 1 && name[at - 1] === '/') isOpen = 1
    return here || isOpen
  })
}

/** Nothing, or whole segments, each with the slash behind it. */
const folders: Piece = (reached, name) => {
  let isOpen = 0
  return reached.map((here, at) => {
    const ends = isOpen === 1 && name[at - 1] === '/' ? 1 : 0
    isOpen ||= here
    return here || ends
  })
}
