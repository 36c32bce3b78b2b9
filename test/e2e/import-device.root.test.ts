import { execa } from 'execa'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { bootSectorDisk } from '../fixtures/boot-sector.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { dvcr } from './dvcr-command.ts'
import { printedImport } from './printed-import.ts'

it('a block device gives the layer of the file with its bytes', async () => {
  await using folder = await createTempFolder()
  const path = join(folder.path, 'disk.raw')
  await writeFile(path, bootSectorDisk({ size: 3 * 1024 * 1024 }))
  await using devices = new AsyncDisposableStack()
  const { stdout: device } = await execa('losetup', ['--find', '--show', '--read-only', path])
  devices.defer(async () => void (await execa('losetup', ['--detach', device])))
  const into = ['--data', join(folder.path, 'data'), '--json']
  const fromDevice = printedImport(await dvcr(['import', device, 'device', ...into]))
  const fromFile = printedImport(await dvcr(['import', path, 'file', ...into]))
  expect(fromDevice).toMatchObject({
    virtualSize: 3 * 1024 * 1024,
    layerDigest: fromFile.layerDigest,
  })
  const other = await dvcr(['import', '/dev/null', 'null', ...into])
  expect(other.stderr).toContain('neither a file nor a block device')
})
