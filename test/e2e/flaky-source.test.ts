import { afterAll, beforeAll, expect, it } from 'vitest'
import { bootSectorDisk } from '../fixtures/boot-sector.ts'
import { startMisbehavingServer } from '../fixtures/misbehaving.ts'
import { startDvcr } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { createImportsApi, type ImportsApi } from './imports-api.ts'

const body = bootSectorDisk({ size: 4 * 1024 * 1024 })
const owned = new AsyncDisposableStack()
let imports: ImportsApi
let expected: string | undefined

beforeAll(async () => {
  const { path: data } = owned.use(await createTempFolder())
  imports = createImportsApi(owned.use(await startDvcr({ data })).url)
  await using source = await startMisbehavingServer(body)
  const { image } = await imports.run({ source: source.url('good'), name: 'expected' })
  expected = image?.layerDigest
  if (expected === undefined) throw new Error('the undisturbed import failed')
})
afterAll(() => owned.disposeAsync())

it.each([
  ['cut-once', 'is continued by range after a cut', 2],
  ['error-once', 'is tried again after a failure', 2],
  ['redirect', 'is followed to where it redirects', 1],
  ['chunked', 'may leave out its length', 1],
] as const)('a source that answers %s %s', async (behaviour, _what, requests) => {
  await using source = await startMisbehavingServer(body)
  const record = await imports.run({ source: source.url(behaviour), name: behaviour })
  expect(record).toMatchObject({
    state: 'succeeded',
    attempts: 1,
    image: { layerDigest: expected },
  })
  expect(record.image?.sourceBytes).toBe(body.length)
  expect(source.requests(behaviour)).toBe(requests)
})
