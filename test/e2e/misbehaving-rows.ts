import { createHash } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { bootSectorDisk } from '../fixtures/boot-sector.ts'
import { noise } from '../fixtures/chunks.ts'
import { isNightly } from './nightly.ts'
import {
  answer,
  breaksAnywhere,
  etag,
  gzipped,
  otherContent,
  whole,
  type Beginning,
  type Flaws,
  type WrongAnswer,
} from './wrong-answers.ts'

const mib = 1024 * 1024
/** Of which every byte differs from those beside it. */
export const content = bootSectorDisk({ size: 20 * mib })
noise(content.length - mib).copy(content, mib)
/** Another version of it. */
export const other = otherContent(content)
export const sha256 = createHash('sha256').update(content).digest('hex')
const seeds = Array.from({ length: isNightly ? 20 : 1 }, (_, index) => index + 1)

/** `right`: the disk that was begun with; `changed`: all of the one that the server has now. */
export type End =
  | 'right'
  | 'changed'
  | `SOURCE_${string}`
  | 'CHECKSUM_MISMATCH'
  | 'IMAGE_INCOMPLETE'

/** One way of being wrong, and how an import ends with it. */
export interface Row {
  /** What such a server does. */
  readonly does: string
  readonly first?: Flaws
  /** With its very first answer. */
  readonly from?: 'start'
  readonly answers: WrongAnswer
  readonly ends: End | Readonly<Record<Beginning, End | readonly End[]>>
  readonly isChecked?: boolean
}

const alike = (headers: Flaws['headers'] = {}): WrongAnswer => {
  return (asked) => answer(asked, { headers })
}
/** Ranges as `wrong` has them; whatever else is asked for is right. */
const inRanges = (wrong: WrongAnswer): WrongAnswer => {
  return (asked) => (asked.isRange ? wrong(asked) : answer(asked))
}
const status = (code: number, headers: Record<string, string> = {}): WrongAnswer => {
  return ({ response }) => void response.writeHead(code, headers).end()
}
/** One that is complete, too. */
export const shorter = content.subarray(0, -512)
const total = content.length
const date = 'Tue, 01 Oct 2024 10:00:00 GMT'
const changesFor = { breaks: 'SOURCE_CHANGED', drips: 'SOURCE_CHANGED', stalls: 'changed' } as const

export const rows: readonly Row[] = [
  { does: 'answers as it should', answers: alike(), ends: 'right' },
  ...seeds.map((seed): Row => ({
    does: `breaks at random bytes (seed ${seed})`,
    answers: breaksAnywhere(seed),
    ends: 'right',
  })),
  {
    does: 'closes after every answer',
    answers: alike({ connection: 'close' }),
    ends: 'right',
  },
  {
    does: 'answers ranges with the whole',
    answers: (asked) => answer(whole(asked)),
    ends: 'right',
  },
  {
    does: 'answers ranges with the whole of another version',
    answers: (asked) => answer(whole({ ...asked, content: other }), { headers: { etag: '"two"' } }),
    ends: changesFor,
  },
  {
    does: 'answers ranges with the whole of another length',
    answers: inRanges((asked) => answer(whole({ ...asked, content: shorter }))),
    ends: changesFor,
  },
  {
    does: 'has another version, whatever If-Range says',
    answers: (asked) => answer({ ...asked, content: other }, { headers: { etag: '"two"' } }),
    ends: changesFor,
  },
  {
    does: 'has another version, and does not say so in ranges',
    answers: (asked) => answer({ ...asked, content: other }, { headers: { etag: undefined } }),
    ends: 'changed',
  },
  {
    does: 'has another version by its date',
    first: { headers: { etag: undefined, 'last-modified': date } },
    answers: (asked) => {
      const headers = { etag: undefined, 'last-modified': date.replace('2024', '2025') }
      return answer({ ...asked, content: other }, { headers })
    },
    ends: changesFor,
  },
  {
    does: 'has only a date',
    first: { headers: { etag: undefined, 'last-modified': date } },
    answers: alike({ etag: undefined, 'last-modified': date }),
    ends: 'right',
  },
  {
    does: 'has only a weak ETag',
    first: { headers: { etag: `W/${etag}` } },
    answers: alike({ etag: `W/${etag}` }),
    ends: 'right',
  },
  {
    does: 'says that ranges are of something longer',
    answers: inRanges((asked) => {
      const range = `bytes ${asked.start}-${asked.end - 1}/${total + 512}`
      return answer(asked, { headers: { 'content-range': range } })
    }),
    ends: { breaks: 'SOURCE_CHANGED', drips: 'SOURCE_CHANGED', stalls: 'right' },
  },
  {
    does: 'answers with the range beside',
    answers: inRanges((asked) => answer({ ...asked, start: asked.start - 4096 })),
    ends: 'right',
  },
  {
    does: 'says the right range and sends the one beside',
    answers: inRanges((asked) => {
      const [start, end] = [asked.start - 4096, asked.end - 4096]
      return answer(asked, { body: content.subarray(start, end) })
    }),
    isChecked: true,
    // After a restart it may begin anew, where no place to go on checking lay before the stall.
    ends: {
      breaks: 'CHECKSUM_MISMATCH',
      drips: 'CHECKSUM_MISMATCH',
      stalls: ['CHECKSUM_MISMATCH', 'right'],
    },
  },
  {
    does: 'sends more than the range',
    answers: inRanges((asked) =>
      answer(asked, { body: Buffer.concat([content.subarray(asked.start, asked.end), content]) }),
    ),
    ends: 'right',
  },
  {
    does: 'sends less than the range',
    answers: inRanges((asked) => answer({ ...asked, end: Math.min(asked.end, asked.start + mib) })),
    ends: 'right',
  },
  {
    does: 'sends less than the range and says that it does not',
    answers: inRanges((asked) =>
      answer(asked, {
        body: content.subarray(asked.start, Math.min(asked.end, asked.start + mib)),
      }),
    ),
    ends: 'right',
  },
  {
    does: 'sends parts of ranges without saying which',
    answers: inRanges((asked) => answer(asked, { headers: { 'content-range': undefined } })),
    ends: 'right',
  },
  {
    does: 'wraps ranges with gzip',
    answers: inRanges((asked) => {
      const body = gzipSync(content.subarray(asked.start, asked.end), { level: 0 })
      return answer(asked, { body, headers: { 'content-encoding': 'gzip' } })
    }),
    ends: 'right',
  },
  { does: 'wraps everything with gzip', from: 'start', answers: gzipped, ends: 'right' },
  {
    does: 'wraps everything in a way that nobody can unwrap',
    from: 'start',
    answers: alike({ 'content-encoding': 'br' }),
    ends: 'SOURCE_INVALID',
  },
  {
    does: 'says 416 to every range',
    answers: inRanges(status(416, { 'content-range': `bytes */${total - 512}` })),
    ends: { breaks: 'SOURCE_CHANGED', drips: 'SOURCE_CHANGED', stalls: 'right' },
  },
  {
    does: 'sends every range elsewhere',
    answers: inRanges((asked) =>
      asked.request.url === '/disk.raw'
        ? status(302, { location: `/there-${asked.count}` })(asked)
        : answer(asked),
    ),
    ends: 'right',
  },
  {
    does: 'sends every range in a circle',
    answers: inRanges(status(302, { location: '/disk.raw' })),
    ends: 'SOURCE_INVALID',
  },
  {
    does: 'is out of order three times of four',
    answers: (asked) => (asked.count % 4 === 1 ? answer(asked) : status(503)(asked)),
    ends: 'right',
  },
  { does: 'is out of order from then on', answers: status(503), ends: 'SOURCE_UNAVAILABLE' },
  { does: 'is silent from then on', answers: () => {}, ends: 'SOURCE_UNAVAILABLE' },
  {
    does: 'stalls in every range',
    answers: (asked) => answer(asked, { stallAt: mib }),
    ends: 'right',
  },
  {
    does: 'drips below the floor',
    answers: (asked) => answer(asked, { bytesPerSecond: mib / 4 }),
    ends: 'SOURCE_UNAVAILABLE',
  },
  {
    does: 'says no length',
    first: { headers: { 'content-length': undefined } },
    answers: alike({ 'content-length': undefined }),
    ends: 'right',
  },
  {
    does: 'breaks without a length for ever',
    from: 'start',
    answers: (asked) =>
      answer(whole(asked), { headers: { 'content-length': undefined }, breakAt: 5 * mib }),
    ends: 'SOURCE_TRUNCATED',
  },
  {
    does: 'says a length that is too long',
    from: 'start',
    answers: (asked) => answer(whole(asked), { headers: { 'content-length': total + 512 } }),
    ends: 'SOURCE_TRUNCATED',
  },
  {
    does: 'says a length that is too short',
    from: 'start',
    answers: (asked) => answer(whole(asked), { headers: { 'content-length': total - 512 } }),
    isChecked: true,
    ends: 'CHECKSUM_MISMATCH',
  },
  {
    does: 'sends something behind the end',
    answers: async (asked) => {
      const { socket } = asked.response
      await answer(asked)
      socket?.write(noise(10_000))
    },
    ends: 'right',
  },
  {
    does: 'answers with a range though none was asked for',
    from: 'start',
    answers: (asked) =>
      answer(asked, { status: 206, headers: { 'content-range': `bytes 0-${total - 1}/${total}` } }),
    ends: 'SOURCE_INVALID',
  },
]
