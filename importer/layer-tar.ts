/** Where the disk file starts in every layer of ours (`docs/stored-image.md`). */
export const fileOffset = 4096

const block = 512
const octalLimit = 8 ** 11
/** libvirt's qemu user and group, who read the file on a node. */
const owner = 107

/**
 * Everything before the disk file: `disk/`, a PAX header padded so that the file's bytes start at
 * `fileOffset`, and the file's header. A pure function of its arguments. @see POSIX pax, ustar
 */
export function tarHead(fileName: string, fileSize: number): Buffer {
  const paxBytes = fileOffset - 3 * block
  return Buffer.concat([
    header({ name: 'disk/', mode: 0o755, size: 0, type: '5' }),
    header({ name: `PaxHeaders/${fileName}`, mode: 0o644, size: paxBytes, type: 'x' }),
    paxRecords(fileSize, paxBytes),
    header({ name: `disk/${fileName}`, mode: 0o644, size: fileSize, type: '0' }),
  ])
}

/** Padding of the file to a full block and the two zero blocks that end the archive. */
export function tarEnd(fileSize: number): Buffer {
  return Buffer.alloc(((block - (fileSize % block)) % block) + 2 * block)
}

function paxRecords(fileSize: number, total: number): Buffer {
  const size = fileSize >= octalLimit ? record('size', String(fileSize)) : ''
  const room = total - size.length
  const comment = 'file data starts at byte 4096'.padEnd(room - `${room} comment=\n`.length)
  return Buffer.from(`${size}${room} comment=${comment}\n`)
}

function record(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`
  // The length counts its own digits.
  const digits = String(rest.length + String(rest.length).length).length
  return `${rest.length + digits}${rest}`
}

interface HeaderFields {
  readonly name: string
  readonly mode: number
  readonly size: number
  readonly type: '0' | '5' | 'x'
}

function header({ name, mode, size, type }: HeaderFields): Buffer {
  const bytes = Buffer.alloc(block)
  const octal = (value: number, at: number, width: number): void => {
    bytes.write(`${value.toString(8).padStart(width - 1, '0')}\0`, at, 'latin1')
  }
  bytes.write(name, 0, 'latin1')
  octal(mode, 100, 8)
  octal(owner, 108, 8)
  octal(owner, 116, 8)
  if (size < octalLimit) {
    octal(size, 124, 12)
  } else {
    // Base-256, for readers that do not take the PAX size.
    bytes.writeUInt8(0x80, 124)
    bytes.writeBigUInt64BE(BigInt(size), 128)
  }
  octal(0, 136, 12)
  bytes.fill(' ', 148, 156)
  bytes.write(type, 156, 'latin1')
  bytes.write('ustar\x0000', 257, 'latin1')
  const sum = bytes.reduce((total, byte) => total + byte, 0)
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return bytes
}
