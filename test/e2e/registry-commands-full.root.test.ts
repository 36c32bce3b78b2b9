import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { pullEverything, pushOver } from '../fixtures/admin-commands.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { mountSmallDisk } from '../fixtures/small-disk.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { dvcr } from './dvcr-command.ts'

const mib = 1024 * 1024
const owned = new AsyncDisposableStack()
let folder: string
let archive: string

beforeAll(async () => {
  folder = owned.use(await createTempFolder()).path
  archive = join(folder, 'backup.tar')
  await using source = await startDvcr({ data: join(folder, 'source') })
  for (const tag of ['1', '2', '3', '4']) {
    await pushOver(source.url, 'a', tag, { layerBytes: 12 * mib })
  }
  await dvcr(['registry', 'export', '--to', archive, '--server', source.url])
})
afterAll(() => owned.disposeAsync())

const run = (server: RunningServer, ...args: readonly string[]) =>
  dvcr(['registry', ...args, '--server', server.url])

// Deleting needs room for its records: a floor keeps it, without one there is by chance some left.
it.each([
  ['with a floor that stays free', '16Mi', [0]],
  ['to the last byte', '0', [0, 3]],
])(
  'an import that fills the disk %s tags nothing, and the store is well',
  async (_, minFree, removals) => {
    await using disk = await mountSmallDisk(48 * mib)
    const data = join(disk.path, 'data')
    {
      await using server = await startDvcr({ data, args: ['--min-free', minFree] })
      await pushOver(server.url, 'mine', '1')
      const full = await run(server, 'import', '--from', archive)
      expect(full).toMatchObject({ exitCode: 3, stdout: '' })
      expect(full.stderr).toMatch(/STORAGE_FULL: .*free space/)
      const seen = Object.keys(await pullEverything(server.url))
      expect(seen.filter((name) => !name.includes('@'))).toEqual(['mine:1'])
      expect((await run(server, 'fsck', '--data-digests')).stdout).toMatch(/^0 errors/m)
      const removed = await run(server, 'rm', 'mine', '--yes')
      expect(removals).toContain(removed.exitCode)
      await server.stop()
    }
  },
)

it('an export that fills the disk leaves nothing', async () => {
  await using disk = await mountSmallDisk(16 * mib)
  const target = join(disk.path, 'x.tar')
  const { exitCode, stderr } = await dvcr([
    'registry',
    'export',
    '--to',
    target,
    '--data',
    join(folder, 'source'),
  ])
  expect(exitCode).toBe(3)
  expect(stderr).toContain('STORAGE_FULL')
})
