import { afterAll, beforeAll, expect, it } from 'vitest'
import { z } from 'zod'
import { imageRecordSchema } from '../../importer/images.ts'
import { diskImage, type Variant } from '../fixtures/images.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { dvcr } from './dvcr-command.ts'
import { isNightly } from './nightly.ts'
import { printedImport } from './printed-import.ts'

const variants: readonly Variant[] = isNightly
  ? ['raw', 'raw.zst', 'qcow2', 'zlib.qcow2', 'zstd.qcow2', 'vmdk', 'vdi', 'vhdx']
  : ['raw.zst', 'zlib.qcow2']
const gib = 1024 ** 3

const owned = new AsyncDisposableStack()
let data: string

beforeAll(async () => {
  data = owned.use(await createTempFolder()).path
})
afterAll(() => owned.disposeAsync())

const inspectedSchema = imageRecordSchema.extend({
  content: z.object({ contentDigest: z.string(), virtualSize: z.number() }),
})

it('of a Debian disk it is told what is on it, and that its content is one', async () => {
  const said = new Set<string | undefined>()
  const computed = new Set<string>()
  for (const variant of variants) {
    const image = `debian/${variant.replaceAll('.', '-')}:1`
    const file = await diskImage('debian', variant)
    said.add(
      printedImport(await dvcr(['import', file, image, '--data', data, '--json'])).contentDigest,
    )
    const { stdout } = await dvcr(['inspect', image, '--content', '--data', data, '--json'])
    const record = inspectedSchema.parse(JSON.parse(stdout))
    expect(record).toMatchObject({
      architecture: 'amd64',
      contents: {
        partitionTable: 'gpt',
        firmware: ['bios', 'uefi'],
        volumes: [
          { partition: 1, type: 'bios-boot', name: 'BIOS boot' },
          { partition: 2, type: 'esp', fileSystem: 'vfat', label: 'ESP', uuid: '8AD5-0F1C' },
          { partition: 3, type: 'linux', fileSystem: 'ext4', label: 'root' },
        ],
        os: { id: 'debian', version: '12', name: 'Debian GNU/Linux 12 (bookworm)' },
        cloudInit: false,
      },
      content: { virtualSize: 10 * gib },
    })
    computed.add(record.content.contentDigest)
  }
  // Those that are stored as they came say none themselves.
  expect([...said].filter((digest) => digest !== undefined)).toEqual([...computed])
})
