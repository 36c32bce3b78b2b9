import { createDiskBytes } from '../converter/contents/disk-bytes.ts'
import { findContents, type DiskContents } from '../converter/contents/disk-contents.ts'
import { headBytes } from '../converter/detect.ts'
import { parseQcow2Header } from '../converter/formats/qcow2-header.ts'
import { readQcow2Guest } from '../converter/qcow2-guest.ts'
import type { PackedDisk } from './pack.ts'

/** Of a packed disk. */
interface StoredDisk extends Pick<PackedDisk, 'virtualSize'> {
  readonly layer: Pick<PackedDisk['layer'], 'readFile'>
  readonly plan: Pick<PackedDisk['plan'], 'storedFormat'>
}

/**
 * What is on a packed disk, read back from the file as it is stored: the same way for all formats,
 * and nothing on the way of the bytes. Never rejects; what cannot be read is not known.
 */
export async function lookInside({ layer, plan, virtualSize }: StoredDisk): Promise<DiskContents> {
  const readFile = (offset: number, length: number) => layer.readFile(offset, length)
  const readGuest = async (offset: number, length: number): Promise<Uint8Array> => {
    guest ??= readFile(0, headBytes).then((head) =>
      readQcow2Guest(parseQcow2Header(head), readFile),
    )
    return (await guest)(offset, length)
  }
  let guest: Promise<ReturnType<typeof readQcow2Guest>> | undefined
  const readAt = plan.storedFormat === 'qcow2' ? readGuest : readFile
  return findContents(createDiskBytes(readAt, virtualSize))
}

/** As asked for, else as found; `warning`: the disk says something else than was asked for. */
export function chooseArchitecture(
  asked: string | undefined,
  found: string | undefined,
): { readonly architecture: string | undefined; readonly warning: string | undefined } {
  const differs = asked !== undefined && found !== undefined && asked !== found
  const warning = differs
    ? `the disk looks like one for ${found}, not for ${asked} as was asked for: the image says ${asked}`
    : undefined
  return { architecture: asked ?? found, warning }
}
