import { CodedError } from '../../core/errors.ts'
import { checksumAlgorithms, type ChecksumAlgorithm, type Checksums } from '../checksums.ts'

/** Lists of whole distributions have some hundred lines. */
export const mostListBytes = 1024 * 1024

const digits: Readonly<Record<number, ChecksumAlgorithm>> = {
  32: 'md5',
  40: 'sha1',
  64: 'sha256',
  128: 'sha512',
}

/**
 * What a list of checksums says of a file: the output of `sha256sum`, `md5sum` and the like, with or
 * without `--tag` (BSD), also between the lines of a clear text signature, which is not verified. Names
 * are compared without their folders. Other lines are left out. Throws SOURCE_INVALID, naming `label`,
 * where the file is not in it or has two checksums of one kind.
 */
export function findChecksums(text: string, fileName: string, label: string): Checksums {
  const found = new Map<ChecksumAlgorithm, string>()
  for (const line of signedLines(text.split(/\r?\n/))) {
    const entry = parseLine(line)
    if (entry?.name.slice(entry.name.lastIndexOf('/') + 1) !== fileName) continue
    const known = found.get(entry.algorithm)
    if (known !== undefined && known !== entry.hex) {
      throw new CodedError(
        'SOURCE_INVALID',
        `${label} has two checksums (${entry.algorithm}) of ${JSON.stringify(fileName)}`,
      )
    }
    found.set(entry.algorithm, entry.hex)
  }
  if (found.size > 0) return Object.fromEntries(found)
  throw new CodedError(
    'SOURCE_INVALID',
    `${label} has no checksum (${checksumAlgorithms.join(', ')}) of ${JSON.stringify(fileName)}`,
  )
}

/** What is signed, where something is. @see RFC 9580 §7 */
function signedLines(lines: readonly string[]): readonly string[] {
  const start = lines.indexOf('-----BEGIN PGP SIGNED MESSAGE-----')
  if (start < 0) return lines
  const text = lines.indexOf('', start)
  const end = lines.indexOf('-----BEGIN PGP SIGNATURE-----', start)
  if (text < 0 || end < text) return []
  return lines.slice(text + 1, end).map((line) => line.replace(/^- /, ''))
}

interface Entry {
  readonly algorithm: ChecksumAlgorithm
  readonly hex: string
  readonly name: string
}

function parseLine(line: string): Entry | undefined {
  const [, escaped, plainHex, plainName] =
    /^(\\?)([0-9a-f]{32,128})[ \t]+\*?(.+)$/i.exec(line) ?? []
  const [, tagEscaped, tag, tagName, tagHex] =
    /^(\\?)(MD5|SHA1|SHA256|SHA512) ?\((.+)\) ?= ?([0-9a-f]{32,128})$/i.exec(line) ?? []
  const hex = (plainHex ?? tagHex ?? '').toLowerCase()
  const algorithm = digits[hex.length]
  const name = plainName ?? tagName
  if (algorithm === undefined || name === undefined) return undefined
  if (tag !== undefined && tag.toLowerCase() !== algorithm) return undefined
  const isEscaped = (escaped ?? tagEscaped) === '\\'
  return { algorithm, hex, name: isEscaped ? unescaped(name) : name }
}

/** @see GNU coreutils, md5sum: names with a backslash, line feed or carriage return */
const unescaped = (name: string): string =>
  name.replace(/\\([\\nr])/g, (_all, char: string) =>
    char === 'n' ? '\n' : char === 'r' ? '\r' : '\\',
  )
