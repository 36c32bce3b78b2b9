import { request } from 'undici'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { imageRecordSchema, type ImageRecord } from '../../importer/images.ts'
import { bootSectorDisk } from '../fixtures/boot-sector.ts'
import { startMisbehavingServer, type MisbehavingServer } from '../fixtures/misbehaving.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { createImportsApi, readVisible, type ImportsApi } from './imports-api.ts'

const errorsSchema = z.strictObject({
  errors: z.tuple([
    z.strictObject({
      code: z.string(),
      message: z.string().min(1),
      detail: z.record(z.string(), z.unknown()).optional(),
    }),
  ]),
})

const owned = new AsyncDisposableStack()
let server: RunningServer
let imports: ImportsApi
let small: MisbehavingServer
let large: MisbehavingServer

beforeAll(async () => {
  const { path: data } = owned.use(await createTempFolder())
  server = owned.use(await startDvcr({ data }))
  imports = createImportsApi(server.url)
  small = owned.use(await startMisbehavingServer(bootSectorDisk({ size: 1024 * 1024 })))
  large = owned.use(await startMisbehavingServer(bootSectorDisk({ size: 2 * 1024 * 1024 })))
})
afterAll(() => owned.disposeAsync())

const imageUrl = (image: string, rest = '') =>
  `${server.url}/v1/image/${encodeURIComponent(image)}${rest}`

async function getImage(image: string): Promise<ImageRecord> {
  const response = await fetch(imageUrl(image))
  expect(response.status).toBe(200)
  return imageRecordSchema.parse(await response.json())
}

async function listImages(query = ''): Promise<ImageRecord[]> {
  const answer = await (await fetch(`${server.url}/v1/images${query}`)).json()
  return z.object({ images: z.array(imageRecordSchema) }).parse(answer).images
}

/** The code of a failure in the form that all failures have. */
async function codeOf(response: Response): Promise<string> {
  expect(response.headers.get('content-type')).toContain('application/json')
  return errorsSchema.parse(await response.json()).errors[0].code
}

async function importTo(name: string, tag: string, from = small) {
  const record = await imports.run({ source: from.url('good'), name, tag, replace: true })
  if (!record.image) throw new Error(`no image: ${JSON.stringify(record)}`)
  return record.image
}

describe('an image', () => {
  it('of a name with slashes is found by tag and by digest', async () => {
    const { digest, layerDigest } = await importTo('team/os/boot', 'v1')
    const byTag = await getImage('team/os/boot:v1')
    expect(byTag).toMatchObject({ name: 'team/os/boot', tag: 'v1', digest, layerDigest })
    expect(byTag).toMatchObject({ format: 'raw', storedFormat: 'qcow2', virtualSize: 1024 * 1024 })
    const { tag: _tag, ...facts } = byTag
    expect(await getImage(`team/os/boot@${digest}`)).toEqual(facts)
    expect(await listImages('?name=team/os/boot')).toEqual([byTag])
    expect(await listImages('?name=team%2Fos%2Fboot')).toEqual([byTag])
  })

  it('is listed once per tag, by name and tag', async () => {
    await importTo('list/b', '1')
    await importTo('list/a', '2')
    await importTo('list/a', '1')
    const names = (await listImages())
      .map(({ name, tag }) => `${name}:${tag}`)
      .filter((name) => name.startsWith('list/'))
    expect(names).toEqual(['list/a:1', 'list/a:2', 'list/b:1'])
    expect(await listImages('?name=list/none')).toEqual([])
  })

  it('gets more tags, which are moved only when told so', async () => {
    const first = await importTo('tags', 'first')
    const second = await importTo('tags', 'second', large)
    expect(second.digest).not.toBe(first.digest)
    const tagged = await fetch(imageUrl('tags:first', '/tags/stable'), { method: 'PUT' })
    expect(tagged.status).toBe(201)
    expect(await tagged.json()).toMatchObject({ tag: 'stable', digest: first.digest })

    const taken = await fetch(imageUrl('tags:second', '/tags/stable'), { method: 'PUT' })
    expect(taken.status).toBe(409)
    expect(await codeOf(taken)).toBe('TAG_EXISTS')
    expect((await getImage('tags:stable')).digest).toBe(first.digest)

    const move = imageUrl(`tags@${second.digest}`, '/tags/stable?replace=true')
    expect((await fetch(move, { method: 'PUT' })).status).toBe(201)
    expect((await getImage('tags:stable')).digest).toBe(second.digest)
    const bad = await fetch(imageUrl('tags:first', '/tags/.bad'), { method: 'PUT' })
    expect([bad.status, await codeOf(bad)]).toEqual([400, 'TAG_INVALID'])
  })

  it('is replaced by an import that says so, and not by one that does not', async () => {
    const source = large.url('good')
    const old = await importTo('replaced', '1')
    const refused = await imports.post({ source, name: 'replaced', tag: '1' })
    expect([refused.status, await codeOf(refused)]).toEqual([409, 'TAG_EXISTS'])
    expect((await getImage('replaced:1')).digest).toBe(old.digest)
    const replaced = await importTo('replaced', '1', large)
    expect((await getImage('replaced:1')).digest).toBe(replaced.digest)
    expect((await getImage(`replaced@${old.digest}`)).digest).toBe(old.digest)
  })

  it('is removed by tag alone, or by digest with all its tags', async () => {
    const { digest } = await importTo('removed', '1')
    await importTo('removed', '2')
    await importTo('removed', 'other', large)
    const remove = (image: string) => fetch(imageUrl(image), { method: 'DELETE' })
    expect((await remove('removed:1')).status).toBe(204)
    expect((await readVisible(server.url))['removed']).toEqual(['2', 'other'])
    expect((await remove(`removed@${digest}`)).status).toBe(204)
    expect((await readVisible(server.url))['removed']).toEqual(['other'])
    const again = await remove('removed:2')
    expect([again.status, await codeOf(again)]).toEqual([404, 'IMAGE_UNKNOWN'])
  })

  it.each([
    ['none:1', 404, 'IMAGE_UNKNOWN'],
    [`none@sha256:${'0'.repeat(64)}`, 404, 'IMAGE_UNKNOWN'],
    ['none@sha256:0', 400, 'DIGEST_INVALID'],
    ['Upper:1', 400, 'NAME_INVALID'],
    ['../../etc/passwd:1', 400, 'NAME_INVALID'],
    ['a:-', 400, 'TAG_INVALID'],
  ])('%s is answered %i %s', async (image, status, code) => {
    for (const method of ['GET', 'DELETE']) {
      const response = await fetch(imageUrl(image), { method })
      expect([response.status, await codeOf(response)]).toEqual([status, code])
    }
  })
})

describe('a server without authentication', () => {
  const json = { 'content-type': 'application/json' }

  it.each([
    ['a foreign Host', { host: 'registry.example.com' }, 421, 'HOST_REFUSED'],
    ['a Host that begins like ours', { host: '127.0.0.1.example.com' }, 421, 'HOST_REFUSED'],
    ['a foreign Origin', { origin: 'http://example.com' }, 403, 'ORIGIN_REFUSED'],
    ['an opaque Origin', { origin: 'null' }, 403, 'ORIGIN_REFUSED'],
    ['another port as Origin', { origin: 'http://127.0.0.1:1' }, 403, 'ORIGIN_REFUSED'],
    ['a text body', { 'content-type': 'text/plain' }, 415, 'MEDIA_TYPE_REFUSED'],
    ['a form', { 'content-type': 'application/x-www-form-urlencoded' }, 415, 'MEDIA_TYPE_REFUSED'],
    ['an upload form', { 'content-type': 'multipart/form-data' }, 415, 'MEDIA_TYPE_REFUSED'],
  ])('refuses %s', async (_what, headers, status, code) => {
    const { statusCode, body } = await request(`${server.url}/v1/imports`, {
      method: 'POST',
      headers: { ...json, ...headers },
      body: JSON.stringify({ source: small.url('good'), name: 'guarded' }),
    })
    const answer = errorsSchema.parse(await body.json())
    expect([statusCode, answer.errors[0].code]).toEqual([status, code])
    expect(await imports.list('?name=guarded')).toEqual([])
  })

  it('takes requests of its own pages and of local names', async () => {
    const [, port = ''] = server.host.split(':')
    for (const host of [`localhost:${port}`, `[::1]:${port}`, server.host]) {
      const { statusCode, body } = await request(`${server.url}/v1/images`, {
        headers: { host, origin: `http://${host}` },
      })
      await body.dump()
      expect(statusCode).toBe(200)
    }
  })

  it.each([
    ['what is not JSON', json, '{"source":', 400],
    ['a body that is too large', json, JSON.stringify({ x: 'x'.repeat(2 ** 21) }), 413],
  ])('answers %s with a reason', async (_what, headers, body, status) => {
    const response = await fetch(`${server.url}/v1/imports`, { method: 'POST', headers, body })
    expect([response.status, await codeOf(response)]).toEqual([status, 'REQUEST_INVALID'])
  })

  it('answers an address where nothing is with 404', async () => {
    const response = await fetch(`${server.url}/v1/nothing`)
    expect([response.status, await codeOf(response)]).toEqual([404, 'REQUEST_INVALID'])
  })
})
