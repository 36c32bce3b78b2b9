import { CodedError } from '../../core/errors.ts'
import type { Bytes } from '../../core/streams.ts'
import { requireVhdChecksum, vhdUnsafe } from './vhd-map.ts'
import { vhdVirtualSize } from './vhd-size.ts'

const footerBytes = 512
const fixedType = 2

/**
 * The disk of a file that is raw, or a VHD of fixed size: raw too, with a footer behind it that
 * nothing before tells of. `start` bytes of it are before `body`. `onFooter` is called where there was one, with the disk's bytes. Throws
 * IMAGE_UNSAFE for a footer of another kind, IMAGE_INCOMPLETE where the disk is shorter than it says.
 */
export async function* withoutVhdFooter(
  body: Bytes,
  start: number,
  onFooter: (virtualSize: number) => void,
): AsyncGenerator<Uint8Array, void> {
  let held = Buffer.alloc(0)
  let given = start
  for await (const chunk of body) {
    const isLong = chunk.length >= footerBytes
    const all = isLong ? chunk : Buffer.concat([held, chunk])
    const end = Math.max(0, all.length - footerBytes)
    const before = all.subarray(0, end)
    given += before.length + (isLong ? held.length : 0)
    if (isLong && held.length > 0) yield held
    if (before.length > 0) yield before
    held = Buffer.from(all.subarray(end))
  }
  if (held.length < footerBytes || held.toString('latin1', 0, 8) !== 'conectix') {
    if (held.length > 0) yield held
    return
  }
  requireVhdChecksum('its footer', held, 64)
  const type = held.readUInt32BE(60)
  if (type !== fixedType) {
    throw vhdUnsafe(
      `its footer has the type ${type}, and only a fixed disk (2) begins with its data`,
    )
  }
  const virtualSize = Number(vhdVirtualSize(held))
  if (virtualSize > given) {
    throw new CodedError(
      'IMAGE_INCOMPLETE',
      `the vhd is cut off: its footer says ${virtualSize} bytes, ${given} are there; check the source file`,
    )
  }
  if (virtualSize < given) {
    throw vhdUnsafe(`its footer says ${virtualSize} bytes, and ${given} are before it`)
  }
  onFooter(virtualSize)
}
