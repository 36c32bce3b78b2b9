import { CodedError } from '../../core/errors.ts'
import { imageUnsafe } from './refusal.ts'
import { headerExtension } from '../qcow2-layout.ts'

/** The first bytes of a file that a verdict is made from. */
const seenBytes = 64 * 1024

/**
 * Walks the header extensions from byte `start` of `head` up to the end of the first cluster.
 * Unknown ones are harmless by the format's rules. Throws IMAGE_UNSAFE for a data file's name, for
 * encryption and for lengths that leave the header, IMAGE_INCOMPLETE where `head` ends before.
 */
export function checkHeaderExtensions(head: Buffer, start: number, clusterSize: number): void {
  let at = start
  while (at + 8 <= clusterSize) {
    if (at + 8 > head.length) throw beyondHead(head, at + 8)
    const type = head.readUInt32BE(at)
    const length = head.readUInt32BE(at + 4)
    switch (type) {
      case headerExtension.end:
        return
      case headerExtension.externalDataFileName:
        throw unsafe('it names an external data file, and other files are never opened')
      case headerExtension.fullDiskEncryption:
        throw unsafe('it has an encryption header without an encryption method')
      default:
        break
    }
    const end = at + 8 + length
    if (end > clusterSize) {
      throw unsafe(
        `header extension 0x${type.toString(16)} at byte ${at} has ${length} bytes, more than the first cluster holds`,
      )
    }
    at = Math.ceil(end / 8) * 8
  }
}

function beyondHead(head: Uint8Array, needed: number): CodedError {
  if (head.length >= seenBytes) {
    return unsafe(`its header extensions go on behind the first ${head.length} bytes`)
  }
  return new CodedError(
    'IMAGE_INCOMPLETE',
    `the qcow2 header is cut off: its extensions need ${needed} bytes, ${head.length} are there`,
  )
}

const unsafe = (reason: string) => imageUnsafe('qcow2', reason)
