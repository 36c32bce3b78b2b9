import { CodedError } from './errors.ts'

/** What one pattern with braces may stand for; `{a,b}` twice is four. */
const mostAlternatives = 256

/** Takes where in a name a pattern may have come to, and answers where it may be after this piece. */
type Piece = (reached: Uint8Array, name: string) => Uint8Array

/**
 * Whether a name matches one of the globs: `*` within a segment, `**` over segments (`a/**` also
 * matches `a`, but `a*\/**` not), `?`, `[a-z]`, `[!a-z]`, `{a,b}`, and `\` before what means only itself. The time it
 * takes is in proportion to pattern and name, whatever stands in them: names are chosen by
 * strangers, and patterns made into regular expressions can be kept busy by one for hours. Throws
 * SETTING_INVALID for a pattern of too many alternatives.
 */
export function createGlobMatcher(patterns: readonly string[]): (name: string) => boolean {
  const globs = patterns.flatMap(alternatives).map(parse)
  return (name) => globs.some((pieces) => matches(pieces, name))
}

function matches(pieces: readonly Piece[], name: string): boolean {
  let reached = new Uint8Array(name.length + 1)
  reached[0] = 1
  for (const piece of pieces) {
    reached = new Uint8Array(piece(reached, name))
    if (!reached.includes(1)) return false
  }
  return reached[name.length] === 1
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

function parse(pattern: string): Piece[] {
  const segments = pattern.split('/').filter((one, at, all) => one !== '**' || all[at - 1] !== '**')
  const pieces: Piece[] = []
  for (const [at, segment] of segments.entries()) {
    const isLast = at === segments.length - 1
    if (segment !== '**') {
      // Behind `**/` the slash is there already.
      if (at > 0 && segments[at - 1] !== '**') pieces.push(slash)
      pieces.push(...parseSegment(segment))
    } else if (isLast) pieces.push(...endingAt(segments[at - 1]))
    else pieces.push(...(at === 0 ? [] : [slash]), folders)
  }
  return pieces
}

// A `**` at the end: behind a `*` it wants a slash.
function endingAt(before: string | undefined): Piece[] {
  if (before === undefined) return [anything]
  return before.endsWith('*') ? [slash, anything] : [anythingBelow]
}

function parseSegment(segment: string): Piece[] {
  const found = segment.matchAll(/(\*+)|(\?)|\[([!^]?)([^\]]+)\]|\\?(.)/gsu)
  return [...found].map(([, star, any, negation, set, letter]) => {
    if (star !== undefined) return withinSegment
    if (any !== undefined) return oneOf((one) => one !== '/')
    if (letter !== undefined) return oneOf((one) => one === letter)
    const inSet = rangesOf(set ?? '')
    return oneOf((one) => one !== '/' && inSet(one) === (negation === ''))
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

const slash = oneOf((letter) => letter === '/')

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
