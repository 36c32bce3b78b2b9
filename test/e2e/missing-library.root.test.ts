import { execa } from 'execa'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { bootSectorDisk } from '../fixtures/boot-sector.ts'
import { dvcrProgram } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import type { Outcome } from './dvcr-command.ts'

const retryable = 3
const disk = bootSectorDisk({ size: 1024 * 1024 })

/**
 * An import on a machine without those libraries: in a mount namespace of its own, where an empty
 * file lies over each.
 */
async function importWithout(libraries: string, packer: string, data: string): Promise<Outcome> {
  const packed = await execa(packer, ['-c'], { input: disk, encoding: 'buffer' })
  const hide =
    'for library in $(find /usr/lib /lib -name "$0"); do mount --bind /dev/null "$library"; done; exec "$@"'
  const command = ['--mount', 'sh', '-euc', hide, libraries, dvcrProgram]
  const args = ['import', '-', 'disk:1', '--data', data, '--json']
  const { exitCode, stdout, stderr } = await execa('unshare', [...command, ...args], {
    input: packed.stdout,
    reject: false,
  })
  return { exitCode, stdout, stderr }
}

it.each([
  ['xz', 'liblzma.so.5*', 'xz-utils (or liblzma5)'],
  ['bzip2', 'libbz2.so.1*', 'libbz2-1.0'],
  ['lz4', 'liblz4.so.1*', 'liblz4-1'],
])(
  'where the library for %s is missing, an import says what to install',
  async (packer, libraries, packages) => {
    await using folder = await createTempFolder()
    const data = join(folder.path, 'data')
    await mkdir(data)
    const without = await importWithout(libraries, packer, data)
    expect(without.stderr).toContain(`dvcr: UNAVAILABLE: cannot decompress ${packer}: `)
    expect(without.stderr).toContain(`install ${packages}`)
    expect(without).toMatchObject({ exitCode: retryable, stdout: '' })
    const unaffected = await importWithout(libraries, 'gzip', data)
    expect({ stderr: unaffected.stderr, exitCode: unaffected.exitCode }).toMatchObject({
      exitCode: 0,
    })
  },
)
