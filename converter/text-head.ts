import { CodedError } from '../core/errors.ts'

/** A disk image whose first kilobyte is all text does not exist; web pages and checksum files do. */
const textBytes = 1024

/**
 * Throws where `head` is text: FORMAT_UNSUPPORTED for the text files of disk formats (VMDK
 * descriptor, OVF), FORMAT_UNKNOWN for web pages, JSON, XML and any other text.
 */
export function refuseText(head: Uint8Array): void {
  const start = Buffer.from(head.buffer, head.byteOffset, Math.min(head.length, textBytes))
  // One character per byte: only ASCII is looked for, and any bytes can be read this way.
  const text = start
    .toString('latin1')
    .replace(/^\u00ef\u00bb\u00bf/, '')
    .trimStart()
  if (isVmdkDescriptor(text)) {
    throw new CodedError(
      'FORMAT_UNSUPPORTED',
      `this is a VMDK descriptor${createTypeOf(head)}: a text file that names the files holding the data, and other files are never opened; convert the whole image to one file first: qemu-img convert -O qcow2 disk.vmdk disk.qcow2`,
    )
  }
  if (/^(?:<!--[^]*?-->\s*)?<(?:!doctype\s+html|html|head|body|script)\b/i.test(text)) {
    throw notAnImage('an HTML page')
  }
  if (!isText(start)) return
  if (text.startsWith('<')) {
    if (/<(?:\w+:)?Envelope\b/.test(text)) {
      throw new CodedError(
        'FORMAT_UNSUPPORTED',
        'this is an OVF description, not a disk image: give the disk file that it names',
      )
    }
    throw notAnImage(/<html\b/i.test(text) ? 'an HTML page' : 'an XML document')
  }
  if (/^[{[]/.test(text)) throw notAnImage('a JSON document')
  throw notAnImage('a text file')
}

function notAnImage(what: string): CodedError {
  return new CodedError(
    'FORMAT_UNKNOWN',
    `the source looks like ${what}, not a disk image: check that the URL is a direct download link`,
  )
}

/** QEMU's rule: blank and comment lines, then the version; padding may follow. */
function isVmdkDescriptor(text: string): boolean {
  return /^# ?Disk DescriptorFile/i.test(text) || /^(?:#[^\n]*\n|\s)*version=[1-3]\s/.test(text)
}

function createTypeOf(head: Uint8Array): string {
  const text = Buffer.from(head.buffer, head.byteOffset, head.length).toString('latin1')
  const [, type] = /^createType\s*=\s*"?([\w.-]{1,63})/im.exec(text) ?? []
  return type === undefined ? '' : ` (createType "${type}")`
}

function isText(bytes: Uint8Array): boolean {
  for (const byte of bytes) {
    const isSpace = byte >= 0x09 && byte <= 0x0d
    if ((byte < 0x20 && !isSpace) || byte === 0x7f) return false
  }
  try {
    // `stream`: the cut at the end may fall inside a character.
    new TextDecoder('utf-8', { fatal: true }).decode(bytes, { stream: true })
    return true
  } catch {
    // Bytes that are no UTF-8 are not text; nothing else can fail here.
    return false
  }
}
