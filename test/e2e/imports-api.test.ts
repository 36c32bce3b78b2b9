import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { importRecordSchema, type ImportRecord } from '../../importer/import-record.ts'
import { bootSectorDisk } from '../fixtures/boot-sector.ts'
import { startMisbehavingServer, type MisbehavingServer } from '../fixtures/misbehaving.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { startGatedSource } from './gated-source.ts'
import { createImportsApi, readVisible, type ImportsApi } from './imports-api.ts'
import { readStoreFolder } from './store-folder.ts'

const body = bootSectorDisk({ size: 4 * 1024 * 1024 })
const owned = new AsyncDisposableStack()
let server: RunningServer
let imports: ImportsApi
let source: MisbehavingServer
let data: string

beforeAll(async () => {
  data = owned.use(await createTempFolder()).path
  server = owned.use(await startDvcr({ data }))
  imports = createImportsApi(server.url)
  source = owned.use(await startMisbehavingServer(body))
})
afterAll(() => owned.disposeAsync())

/** All events of an import's stream, to the stream's end. */
async function readEvents(id: string): Promise<ImportRecord[]> {
  const response = await fetch(`${server.url}/v1/imports/${id}/events`)
  expect(response.headers.get('content-type')).toBe('text/event-stream')
  const events = (await response.text()).trimEnd().split('\n\n')
  return events.map((event) => {
    const [kind, data = '', ...more] = event.split('\n')
    expect([kind, more]).toEqual(['event: import', []])
    return importRecordSchema.parse(JSON.parse(data.replace(/^data: /, '')))
  })
}

describe('POST /v1/imports', () => {
  it('answers 202 with the import and where to find it', async () => {
    const response = await imports.post({ source: source.url('good'), name: 'posted' })
    expect(response.status).toBe(202)
    const record = importRecordSchema.parse(await response.json())
    expect(record).toMatchObject({ name: 'posted', tag: 'latest', source: source.url('good') })
    expect(response.headers.get('location')).toBe(`/v1/imports/${record.id}`)
    const finished = await imports.finished(record.id)
    expect(finished).toMatchObject({ state: 'succeeded', attempts: 1, format: 'raw', warnings: [] })
    expect(finished.image).toMatchObject({ virtualSize: body.length, sourceBytes: body.length })
  })

  it('with the same Idempotency-Key and body is one import, finished or not', async () => {
    const key = { 'idempotency-key': 'retry-1' }
    const wanted = { source: source.url('good'), name: 'idempotent' }
    const first = importRecordSchema.parse(await (await imports.post(wanted, key)).json())
    await imports.finished(first.id)
    const again = await imports.post({ ...wanted, tag: 'latest' }, key)
    expect(again.status).toBe(202)
    expect(await again.json()).toMatchObject({ id: first.id, state: 'succeeded' })
    expect(await imports.list('?name=idempotent')).toHaveLength(1)
  })

  it('with the same Idempotency-Key twice at once is one import', async () => {
    const key = { 'idempotency-key': 'at-once' }
    const wanted = { source: source.url('good'), name: 'at-once' }
    const answers = await Promise.all([1, 2, 3, 4].map(() => imports.post(wanted, key)))
    const records = await Promise.all(answers.map(async (answer) => answer.json()))
    expect(new Set(records.map((record) => importRecordSchema.parse(record).id)).size).toBe(1)
    expect(await imports.list('?name=at-once')).toHaveLength(1)
  })

  it('with the same Idempotency-Key and another body is refused', async () => {
    const key = { 'idempotency-key': 'retry-2' }
    await imports.post({ source: source.url('good'), name: 'conflict' }, key)
    const other = await imports.post({ source: source.url('good'), name: 'conflict/other' }, key)
    expect(other.status).toBe(409)
    expect(await other.json()).toMatchObject({ errors: [{ code: 'IDEMPOTENCY_CONFLICT' }] })
  })

  it('never shows or logs what is secret in an address', async () => {
    const { host } = new URL(source.url('good'))
    for (const path of ['good', 'not-found']) {
      const secret = `http://user:hunter2@${host}/${path}?token=hunter2#hunter2`
      const record = await imports.run({ source: secret, name: `secret/${path}` })
      expect(record.source).toBe(`http://${host}/${path}`)
      expect(JSON.stringify(record)).not.toContain('hunter2')
    }
    const image = await fetch(`${server.url}/v1/image/${encodeURIComponent('secret/good:latest')}`)
    expect(await image.text()).not.toContain('hunter2')
    expect(server.output()).not.toContain('hunter2')
  })
})

describe('GET /v1/imports', () => {
  it('lists the newest first, by state, name and at most so many', async () => {
    const good = { source: source.url('good'), name: 'listed' }
    const first = await imports.run({ ...good, tag: '1' })
    const second = await imports.run({ ...good, tag: '2' })
    const bad = await imports.run({ source: source.url('not-found'), name: 'listed', tag: '3' })
    const ids = async (query: string) => (await imports.list(query)).map(({ id }) => id)
    expect(await ids('?name=listed')).toEqual([bad.id, second.id, first.id])
    expect(await ids('?name=listed&state=succeeded')).toEqual([second.id, first.id])
    expect(await ids('?name=listed&state=failed')).toEqual([bad.id])
    expect(await ids('?name=listed&limit=1')).toEqual([bad.id])
    expect(await ids('?name=nothing')).toEqual([])
  })

  it.each(['?state=done', '?limit=0', '?limit=x', '?other=1'])('refuses %s', async (query) => {
    const response = await fetch(`${server.url}/v1/imports${query}`)
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ errors: [{ code: 'REQUEST_INVALID' }] })
  })

  it.each([
    ['GET', ''],
    ['GET', '/events'],
    ['DELETE', ''],
  ])('%s of an unknown import%s is 404', async (method, path) => {
    const url = `${server.url}/v1/imports/00000000-0000-4000-8000-000000000000${path}`
    const response = await fetch(url, { method })
    expect(response.status).toBe(404)
    expect(await response.json()).toMatchObject({ errors: [{ code: 'IMPORT_UNKNOWN' }] })
  })
})

describe('the event stream', () => {
  it('shows an import as it advances and ends with it', async () => {
    await using gated = await startGatedSource(body)
    const { id } = await imports.create({ source: gated.url, name: 'watched' })
    const reading = readEvents(id)
    await gated.held()
    await imports.until(id, ({ progress }) => progress.bytes > 0)
    gated.open()
    const events = await reading
    expect(events.at(-1)).toEqual(await imports.get(id))
    expect(events.at(-1)?.state).toBe('succeeded')
    expect(events.some(({ state, stage }) => state === 'running' && stage === 'transfer')).toBe(
      true,
    )
    const bytes = events.map(({ progress }) => progress.bytes)
    expect(bytes).toEqual([...bytes].sort((a, b) => a - b))
    expect(bytes.at(-1)).toBe(body.length)
    const states = ['queued', 'running', 'succeeded']
    const order = events.map(({ state }) => states.indexOf(state))
    expect(order).toEqual([...order].sort((a, b) => a - b))
  })

  it('of a finished import is one event', async () => {
    const { id } = await imports.run({ source: source.url('not-found'), name: 'failed' })
    expect(await readEvents(id)).toEqual([await imports.get(id)])
  })
})

describe('DELETE /v1/imports/{id}', () => {
  it('stops an import at work, tells its watchers and leaves nothing', async () => {
    await using gated = await startGatedSource(body)
    const before = { visible: await readVisible(server.url), stored: await readStoreFolder(data) }
    const { id } = await imports.create({ source: gated.url, name: 'cancelled' })
    const reading = readEvents(id)
    await gated.held()
    expect(await imports.cancel(id)).toMatchObject({ id, state: 'cancelled' })
    expect((await reading).at(-1)?.state).toBe('cancelled')
    await gated.left()
    const after = { visible: await readVisible(server.url), stored: await readStoreFolder(data) }
    expect(after).toEqual(before)
    expect(await imports.cancel(id)).toMatchObject({ state: 'cancelled' })
  })

  it('takes an import out of the queue', async () => {
    await using gated = await startGatedSource(body)
    const running = [
      await imports.create({ source: gated.url, name: 'running', tag: '1' }),
      await imports.create({ source: gated.url, name: 'running', tag: '2' }),
    ]
    await gated.held(2)
    const queued = await imports.create({ source: source.url('good'), name: 'queued' })
    expect(await imports.get(queued.id)).toMatchObject({ state: 'queued', attempts: 0 })
    expect(await imports.cancel(queued.id)).toMatchObject({ state: 'cancelled', attempts: 0 })
    gated.open()
    for (const { id } of running) {
      expect(await imports.finished(id)).toMatchObject({ state: 'succeeded' })
    }
  })

  it('leaves a finished import as it is', async () => {
    const finished = await imports.run({ source: source.url('good'), name: 'finished' })
    expect(await imports.cancel(finished.id)).toEqual(finished)
  })
})

it('of two imports to one tag the first to finish wins', async () => {
  await using gated = await startGatedSource(body)
  const wanted = { source: gated.url, name: 'race' }
  const started = [await imports.create(wanted), await imports.create(wanted)]
  await gated.held(2)
  gated.open()
  const ends = await Promise.all(started.map(({ id }) => imports.finished(id)))
  // The same content is the same image: then both may have it.
  expect(ends.map(({ state }) => state)).toEqual(['succeeded', 'succeeded'])

  await using slow = await startGatedSource(bootSectorDisk({ size: 1024 * 1024 }))
  const other = await imports.create({ source: slow.url, name: 'race', tag: 'other' })
  await slow.held()
  const first = await imports.run({ source: source.url('good'), name: 'race', tag: 'other' })
  expect(first.state).toBe('succeeded')
  slow.open()
  const second = await imports.finished(other.id)
  expect(second).toMatchObject({ state: 'failed', error: { code: 'TAG_EXISTS' } })
  expect(await readStoreFolder(data)).toMatchObject({ broken: [], orphans: [], uploads: [] })
})
