import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { failureMessage, mostMessageBytes, successMessage } from './termination-message.ts'

const image = {
  digest: `sha256:${'a'.repeat(64)}`,
  format: 'vmdk',
  storedFormat: 'qcow2',
  architecture: 'amd64',
  virtualSize: 16 * 2 ** 40,
  layerDigest: `sha256:${'b'.repeat(64)}`,
  storedSize: 123,
  contentDigest: `sha256:${'c'.repeat(64)}`,
  sourceBytes: 456,
  scratchBytes: 123,
  durationMs: 1500,
  bytesPerSecond: 304,
}
const failure = { code: 'SOURCE_UNAVAILABLE', retryable: true } as const
const failed = (message: string) => Object(JSON.parse(failureMessage({ ...failure, message })))

describe('the message of a success', () => {
  it('has the keys that controllers know, and more', () => {
    const message = successMessage(image)
    expect(JSON.parse(message)).toEqual({
      'source-image-size': 456,
      'source-image-virtual-size': 16 * 2 ** 40,
      'source-image-format': 'vmdk',
      duration: 1_500_000_000,
      'average-speed': 304,
      digest: image.digest,
      'layer-digest': image.layerDigest,
      'stored-size': 123,
      'content-digest': image.contentDigest,
    })
    expect(Buffer.byteLength(message)).toBeLessThan(mostMessageBytes)
  })

  it('leaves out what is empty', () => {
    const { contentDigest: _contentDigest, ...rest } = image
    const message = successMessage({ ...rest, sourceBytes: 0, bytesPerSecond: 0 })
    expect(Object.keys(Object(JSON.parse(message)))).toEqual([
      'source-image-virtual-size',
      'source-image-format',
      'duration',
      'digest',
      'layer-digest',
      'stored-size',
    ])
  })
})

describe('the message of a failure', () => {
  it('has the text, the code, and whether a retry may help', () => {
    expect(failed('it is down')).toEqual({
      'error-message': 'it is down',
      'error-code': 'SOURCE_UNAVAILABLE',
      'error-retryable': true,
    })
  })

  it.each(['x', 'é', '💾', '"', '\\', '\n', '\u0000', '\ud83d', '👩‍👩‍👧'])(
    'uses what there is for a text of %j, and no more',
    (text) => {
      const message = failureMessage({ ...failure, message: text.repeat(100_000) })
      const size = Buffer.byteLength(message)
      expect(size).toBeLessThanOrEqual(mostMessageBytes)
      // One more character would not have fitted.
      expect(size).toBeGreaterThan(mostMessageBytes - 12)
      expect(failed(text.repeat(100_000))['error-message']).toMatch(/…$/)
    },
  )

  it('is JSON of at most 4096 bytes with the beginning of any text', () => {
    const pieces = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 200 }),
      fc.string({ unit: 'grapheme', maxLength: 200 }),
      fc.constantFrom('💾', '\ud800', '\udc00', '\u2028', '"\\'),
    )
    const texts = fc
      .tuple(fc.array(pieces, { maxLength: 30 }), fc.integer({ min: 0, max: 300 }))
      .map(([parts, times]) => parts.join('').repeat(times).slice(0, 100_000))
    fc.assert(
      fc.property(texts, (text) => {
        const json = failureMessage({ ...failure, message: text })
        expect(Buffer.byteLength(json)).toBeLessThanOrEqual(mostMessageBytes)
        // What arrives went through UTF-8.
        const { 'error-message': said, 'error-code': code } = Object(
          JSON.parse(Buffer.from(json).toString()),
        )
        expect(code).toBe('SOURCE_UNAVAILABLE')
        expect(said === text || text.startsWith(String(said).slice(0, -1))).toBe(true)
      }),
      { numRuns: process.env['DVCR_NIGHTLY'] === '1' ? 5000 : 200 },
    )
  })
})
