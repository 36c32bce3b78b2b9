import { execa } from 'execa'
import { randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { diskImage, type Variant } from '../fixtures/images.ts'

/** Writes into `folder` what is damaged on its way, by name; images that are bad themselves: `test/corpus/`. */
export async function writeDamagedImages(folder: string): Promise<void> {
  const write = (name: string, bytes: Uint8Array) => writeFile(join(folder, name), bytes)
  const image = async (variant: Variant) => readFile(await diskImage('boot-sector', variant))
  for (const variant of ['raw.gz', 'raw.xz', 'raw.multi-block.xz', 'raw.zst'] as const) {
    const bytes = await image(variant)
    await write(`cut.${variant}`, bytes.subarray(0, bytes.length >> 1))
    await write(`short.${variant}`, bytes.subarray(0, -1))
    await write(`trailing.${variant}`, Buffer.concat([bytes, Buffer.from('trailing garbage')]))
    const flipped = Buffer.from(bytes)
    flipped.fill(0x55, bytes.length >> 1, (bytes.length >> 1) + 64)
    await write(`flipped.${variant}`, flipped)
  }
  const qcow2 = await image('qcow2')
  await write('half.qcow2', qcow2.subarray(0, qcow2.length >> 1))
  await execa('gzip', ['-n', join(folder, 'half.qcow2')])
  const garbage = Buffer.concat([Buffer.from('1f8b0800000000000003', 'hex'), randomBytes(100_000)])
  await write('garbage.gz', garbage)
}
