/** Size of a tar block: headers take one, and contents are filled up to whole ones. */
const blockBytes = 512
/** What the eleven octal digits of a plain header can say. */
const plainSizeLimit = 8 ** 11
const plainNameLimit = 100

const zeros = Buffer.alloc(2 * blockBytes)

/** The end of an archive. */
export const tarEnd: Uint8Array = zeros

/** Fills the last block of a file's contents. */
export function tarPadding(size: number): Uint8Array {
  return zeros.subarray(0, (blockBytes - (size % blockBytes)) % blockBytes)
}

/**
 * The header of a file, or of a folder where `name` ends in `/`; `mtimeS` in seconds. Longer names
 * and sizes from 8 GiB on are said in a pax header before it. @see POSIX.1-2017 pax §Interchange
 */
export function tarHeader(name: string, size: number, mtimeS: number): Uint8Array {
  const records = [
    ...(name.length > plainNameLimit ? [paxRecord('path', name)] : []),
    ...(size >= plainSizeLimit ? [paxRecord('size', String(size))] : []),
  ]
  const plainName = name.slice(0, plainNameLimit)
  const plainSize = size >= plainSizeLimit ? 0 : size
  const type = name.endsWith('/') ? '5' : '0'
  const header = block({ name: plainName, size: plainSize, mtimeS, type })
  if (records.length === 0) return header
  const pax = Buffer.from(records.join(''))
  const paxHeader = block({ name: 'pax-header', size: pax.length, mtimeS, type: 'x' })
  return Buffer.concat([paxHeader, pax, tarPadding(pax.length), header])
}

/** `<length> <key>=<value>\n`, where the length counts itself. */
function paxRecord(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`
  let length = rest.length
  while (String(length).length + rest.length !== length) {
    length = String(length).length + rest.length
  }
  return `${length}${rest}`
}

interface PlainHeader {
  readonly name: string
  readonly size: number
  readonly mtimeS: number
  readonly type: '0' | '5' | 'x'
}

/** @see POSIX.1-2017 pax §ustar Interchange Format */
function block({ name, size, mtimeS, type }: PlainHeader): Buffer {
  const header = Buffer.alloc(blockBytes)
  const octal = (value: number, digits: number): string => value.toString(8).padStart(digits, '0')
  header.write(name, 0)
  header.write(octal(type === '5' ? 0o755 : 0o644, 7), 100)
  header.write(octal(0, 7), 108)
  header.write(octal(0, 7), 116)
  header.write(octal(size, 11), 124)
  header.write(octal(mtimeS, 11), 136)
  header.write(' '.repeat(8), 148)
  header.write(type, 156)
  header.write('ustar', 257)
  header.write('00', 263)
  header.write('root', 265)
  header.write('root', 297)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${octal(sum, 6)}\0 `, 148)
  return header
}
