import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { chunked, chunkSizes, collect } from '../test/fixtures/chunks.ts'
import { createTail, inPieces, observed, peek } from './streams.ts'

const bytesOf = fc.uint8Array({ maxLength: 400 })

/** A source that says whether it was closed; `failAt` chunks in it throws. */
function watchedSource(chunks: readonly Uint8Array[], failAt = Number.POSITIVE_INFINITY) {
  const state = { closed: 0, asked: 0 }
  async function* body(): AsyncGenerator<Uint8Array, void> {
    try {
      for (const chunk of chunks) {
        if (state.asked++ === failAt) throw new Error('the source failed')
        yield chunk
      }
      if (failAt === chunks.length) throw new Error('the source failed')
    } finally {
      state.closed++
    }
  }
  return { state, body: body() }
}

const letters = [Buffer.from('abc'), Buffer.from('def'), Buffer.from('ghi')]

describe('peek', () => {
  test('gives the head and all bytes for any chunking', async () => {
    const size = fc.integer({ min: 0, max: 50 })
    await fc.assert(
      fc.asyncProperty(bytesOf, chunkSizes(20), size, async (bytes, sizes, wanted) => {
        const { head, rest } = await peek(chunked(bytes, sizes), wanted)
        expect(Buffer.from(head).equals(bytes.subarray(0, wanted))).toBe(true)
        expect((await collect(rest)).equals(bytes)).toBe(true)
      }),
    )
  })

  test('reads no more than it needs, and never an empty chunk first', async () => {
    const { state, body } = watchedSource(letters)
    const { rest } = await peek(body, 2)
    expect(state).toEqual({ asked: 1, closed: 0 })
    expect((await rest.next()).value).toEqual(Uint8Array.from(letters[0] ?? []))
    await rest.return()
  })

  test('closes the source when its rest is disposed without being read', async () => {
    const { state, body } = watchedSource(letters)
    {
      await using rest = (await peek(body, 2)).rest
      expect(rest).toBeDefined()
    }
    expect(state.closed).toBe(1)
  })

  test('closes the source when reading stops early', async () => {
    const { state, body } = watchedSource(letters)
    for await (const chunk of (await peek(body, 4)).rest) {
      expect(chunk).toHaveLength(3)
      break
    }
    expect(state).toEqual({ asked: 2, closed: 1 })
  })

  test('passes on the failure of a source in the head', async () => {
    const { state, body } = watchedSource(letters, 1)
    await expect(peek(body, 4)).rejects.toThrow('the source failed')
    expect(state.closed).toBe(1)
  })

  test('passes on the failure of a source after the head', async () => {
    const { state, body } = watchedSource(letters, 3)
    const { head, rest } = await peek(body, 4)
    expect(Buffer.from(head).toString()).toBe('abcd')
    await expect(collect(rest)).rejects.toThrow('the source failed')
    expect(state.closed).toBe(1)
  })

  test('stands in a row with itself, the last one closing all', async () => {
    const { state, body } = watchedSource(letters)
    const first = await peek(body, 1)
    const second = await peek(first.rest, 5)
    expect(Buffer.from(second.head).toString()).toBe('abcde')
    await second.rest.return()
    expect(state.closed).toBe(1)
  })
})

describe('inPieces', () => {
  test('gives the same bytes in equal pieces for any chunking', async () => {
    const size = fc.integer({ min: 1, max: 64 })
    await fc.assert(
      fc.asyncProperty(bytesOf, chunkSizes(50), size, async (bytes, sizes, pieceSize) => {
        const pieces: Buffer[] = []
        for await (const piece of inPieces(chunked(bytes, sizes), pieceSize)) {
          pieces.push(Buffer.from(piece))
        }
        expect(Buffer.concat(pieces).equals(bytes)).toBe(true)
        for (const piece of pieces.slice(0, -1)) expect(piece).toHaveLength(pieceSize)
        expect(pieces).toHaveLength(Math.ceil(bytes.length / pieceSize))
      }),
    )
  })

  test('closes its source when reading stops early', async () => {
    const { state, body } = watchedSource(letters)
    for await (const piece of inPieces(body, 2)) {
      expect(Buffer.from(piece).toString()).toBe('ab')
      break
    }
    expect(state.closed).toBe(1)
  })
})

test('observed shows every chunk and changes nothing', async () => {
  let seen = 0
  const { state, body } = watchedSource(letters)
  const all = await collect(observed(body, (chunk) => (seen += chunk.length)))
  expect({ text: all.toString(), seen, closed: state.closed }).toEqual({
    text: 'abcdefghi',
    seen: 9,
    closed: 1,
  })
})

test('a tail is what slice gives, at any moment and for any chunking', () => {
  const chunks = fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 12 })
  fc.assert(
    fc.property(chunks, fc.integer({ min: 1, max: 50 }), (pushed, size) => {
      const tail = createTail(size)
      let all = Buffer.alloc(0)
      for (const chunk of pushed) {
        tail.push(chunk)
        all = Buffer.concat([all, chunk])
        expect(Buffer.from(tail.bytes()).equals(all.subarray(-size))).toBe(true)
      }
    }),
  )
})
