import { execa } from 'execa'
import { randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { diskImage, type Variant } from '../fixtures/images.ts'

/** Writes into `folder` what must not become an image, by name. */
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
  for (const variant of ['qcow2', 'zlib.qcow2', 'zstd.qcow2'] as const) {
    const bytes = await image(variant)
    await write(`half.${variant}`, bytes.subarray(0, bytes.length >> 1))
  }
  await write('hundred-bytes.bin', Buffer.alloc(100, 0x80))
  await execa('gzip', ['-k', '-n', join(folder, 'half.qcow2')])
  const garbage = Buffer.concat([Buffer.from('1f8b0800000000000003', 'hex'), randomBytes(100_000)])
  await write('garbage.gz', garbage)
  await execa('sh', ['-c', `head -c 100M /dev/zero | gzip -1 >"$1"`, 'sh', join(folder, 'huge.gz')])

  const create = ['create', '-q', '-f', 'qcow2']
  const backing = ['-b', await diskImage('boot-sector', 'raw'), '-F', 'raw']
  await execa('qemu-img', [...create, ...backing, join(folder, 'backing.qcow2')])
  const dataFile = ['-o', `data_file=${join(folder, 'data-file.raw')}`]
  await execa('qemu-img', [...create, ...dataFile, join(folder, 'data-file.qcow2'), '16M'])
}
