import { crc32, gzipSync } from 'node:zlib'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { chunked, chunkSizes, collect, noise } from '../../test/fixtures/chunks.ts'
import { refusalIn } from '../../test/fixtures/refusal.ts'
import { decodeGzipMembers } from './gzip-members.ts'

const plain = Buffer.concat([Buffer.alloc(2000, 'text that shrinks '), noise(500)])
const fixed = Buffer.from([0x1f, 0x8b, 8, 0x1e, 0, 0, 0, 0, 0, 3])
const fields = Buffer.concat([
  Buffer.from([5, 0]),
  Buffer.from('extra'),
  Buffer.from('a name\0a comment\0'),
])
const check = Buffer.alloc(2)
check.writeUInt16LE(crc32(Buffer.concat([fixed, fields])) % 2 ** 16)
/** A member with every field that a header can have. */
const member = Buffer.concat([fixed, fields, check, gzipSync(plain).subarray(10)])
const headBytes = fixed.length + fields.length + check.length

const decode = (bytes: Uint8Array, sizes: readonly number[]) =>
  collect(decodeGzipMembers(chunked(bytes, sizes), () => {}))

test('headers with every field are read, for any chunking', async () => {
  const joined = Buffer.concat([member, gzipSync(plain), member])
  await fc.assert(
    fc.asyncProperty(chunkSizes(60), async (sizes) => {
      expect((await decode(joined, sizes)).equals(Buffer.concat([plain, plain, plain]))).toBe(true)
    }),
    { numRuns: 20 },
  )
})

test('what is cut or changed in a header or behind the data is refused', async () => {
  for (let at = 0; at < member.length; at++) {
    if (at === headBytes) at = member.length - 8
    const changed = Buffer.from(member)
    changed[at] = (member[at] ?? 0) ^ 0x10
    const cut = member.subarray(0, member.length - 1 - at)
    for (const bytes of [changed, cut]) {
      expect(await refusalIn(decode(bytes, [7]))).toBe('COMPRESSION_INVALID')
    }
  }
})

test('a reader that stops does not wait for a source that stands still', async () => {
  const packed = gzipSync(noise(3_000_000))
  async function* source(): AsyncGenerator<Uint8Array> {
    yield packed.subarray(0, 2_500_000)
    await new Promise(() => {})
  }
  let given = 0
  for await (const chunk of decodeGzipMembers(source(), () => {})) {
    given += chunk.length
    if (given > 1_500_000) break
  }
  expect(given).toBeGreaterThan(1_500_000)
})

test('a name without an end is read piece by piece', async () => {
  const head = Buffer.from([0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3])
  const endless = Buffer.concat([head, Buffer.alloc(3_000_000, 'n')])
  expect(await refusalIn(decode(endless, [100_000]))).toBe('COMPRESSION_INVALID')
})
