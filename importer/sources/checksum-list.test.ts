import { createHash } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { assert, property, string, integer } from 'fast-check'
import { describe, expect, test } from 'vitest'
import { CodedError } from '../../core/errors.ts'
import { createTempFolder } from '../../test/fixtures/temp-folder.ts'
import { findChecksums } from './checksum-list.ts'

const of = (algorithm: string, text = 'a'): string =>
  createHash(algorithm).update(text).digest('hex')
const label = 'http://h/SHA256SUMS'
const find = (text: string, name = 'disk.img') => findChecksums(text, name, label)
const refused = expect.objectContaining({ code: 'SOURCE_INVALID' })

describe('a list of checksums', () => {
  test('is read as the tools write it', async () => {
    await using folder = await createTempFolder()
    const names = ['disk.img', 'new\nline.img', 'back\\slash.img', 'two  spaces (1).img']
    for (const name of names) await writeFile(join(folder.path, name), name)
    for (const algorithm of ['md5', 'sha1', 'sha256', 'sha512']) {
      for (const flags of [[], ['--tag'], ['--binary']]) {
        const { stdout } = await execa(`${algorithm}sum`, [...flags, '--', ...names], {
          cwd: folder.path,
        })
        for (const name of names)
          expect(find(stdout, name)).toEqual({ [algorithm]: of(algorithm, name) })
      }
    }
  })

  test.each([
    ['folders in front', `${of('sha256')}  ./a/disk.img\n`],
    ['capital letters and a tab', `${of('sha256').toUpperCase()}\t*disk.img`],
    ['another system', `${of('sha256')}  disk.img\r\n`],
    [
      'remarks and others',
      `# disk.img: 12 bytes\n\n${of('sha1')}  x\nSHA256 (disk.img) = ${of('sha256')}`,
    ],
    ['a line twice', `${of('sha256')}  disk.img\n${of('sha256')} *disk.img`],
    [
      'a signature around it',
      `${of('sha256', 'b')}  disk.img\n-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n- ${of('sha256')}  disk.img\n-----BEGIN PGP SIGNATURE-----\n\n${of('sha256', 'c')}  disk.img\n`,
    ],
  ])('may have %s', (_what, text) => {
    expect(find(text)).toEqual({ sha256: of('sha256') })
  })

  test('gives all kinds that it has', () => {
    const text = `SHA512 (disk.img) = ${of('sha512')}\n${of('md5')}  disk.img\n`
    expect(find(text)).toEqual({ sha512: of('sha512'), md5: of('md5') })
  })

  test.each([
    ['does not name the file', `${of('sha256')}  other.img\n`],
    ['names one that ends like it', `${of('sha256')}  a-disk.img\n`],
    ['says two things of it', `${of('sha256')}  disk.img\n${of('sha256', 'b')}  old/disk.img\n`],
    ['has a kind that is not known', `SHA384 (disk.img) = ${of('sha384')}\n`],
    ['says another kind than it has', `SHA256 (disk.img) = ${of('sha512')}\n`],
    [
      'says it outside of what is signed',
      `-----BEGIN PGP SIGNED MESSAGE-----\n\n-----BEGIN PGP SIGNATURE-----\n${of('sha256')}  disk.img\n`,
    ],
    ['is a page', '<!DOCTYPE html>disk.img'],
    ['is empty', ''],
  ])('that %s is refused', (_what, text) => {
    expect(() => find(text)).toThrow(refused)
  })

  test('of any bytes is read or refused, and cut off never gives another checksum', () => {
    const whole = `${of('md5')}  x\nSHA256 (disk.img) = ${of('sha256')}\n${of('sha512')} *disk.img\n`
    const outcome = (text: string): unknown => {
      try {
        return find(text)
      } catch (error) {
        return error instanceof CodedError ? error.code : error
      }
    }
    assert(
      property(string({ unit: 'binary' }), (text) => {
        expect(outcome(text)).toBe('SOURCE_INVALID')
      }),
    )
    assert(
      property(integer({ min: 0, max: whole.length }), (length) => {
        const found = outcome(whole.slice(0, length))
        const possible = [
          'SOURCE_INVALID',
          { sha256: of('sha256') },
          { sha256: of('sha256'), sha512: of('sha512') },
        ]
        expect(possible).toContainEqual(found)
      }),
    )
  })
})
