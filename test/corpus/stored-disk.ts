import { execa } from 'execa'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { createTempFolder } from '../fixtures/temp-folder.ts'

const manifestSchema = z.object({
  layers: z.tuple([z.object({ digest: z.string() })]),
  annotations: z.record(z.string(), z.string()),
})

/** The disk file in the one layer of that image. */
export async function storedDisk(url: string, name: string): Promise<Buffer> {
  const answer = await fetch(`${url}/v2/${name}/manifests/latest`)
  const { layers, annotations } = manifestSchema.parse(await answer.json())
  const layer = await fetch(`${url}/v2/${name}/blobs/${layers[0].digest}`)
  const bytes = Buffer.from(await layer.arrayBuffer())
  const start = Number(annotations['io.dvcr.disk.file-offset'])
  return bytes.subarray(start, start + Number(annotations['io.dvcr.disk.file-size']))
}

/** What qemu-img reads of an image of that format. */
export async function rawBy(format: string, image: Buffer): Promise<Buffer> {
  await using folder = await createTempFolder()
  const [from, to] = [join(folder.path, 'image'), join(folder.path, 'raw')]
  await writeFile(from, image)
  await execa('qemu-img', ['convert', '-f', format, '-O', 'raw', from, to])
  return await readFile(to)
}

/** Whether both are one disk, of which `expected` may end inside its last sector. */
export function isSameDisk(found: Buffer, expected: Buffer): boolean {
  const padded = Buffer.alloc(Math.ceil(expected.length / 512) * 512)
  padded.set(expected)
  return found.equals(padded)
}
