import { randomBytes } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { goTool, orasPython } from '../fixtures/go-tools.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { fetchManifest, setUpClient, statusOf, type ClientSetup } from './client-setup.ts'

const artifactType = 'application/vnd.example.disk'

const stack = new AsyncDisposableStack()
let client: ClientSetup
let server: RunningServer
let disk: Buffer

beforeAll(async () => {
  client = stack.use(await setUpClient())
  server = client.server
  disk = randomBytes(100_000)
  await writeFile(join(client.folder, 'disk.img'), disk)
  await writeFile(join(client.folder, 'report.json'), '{"clean":true}')
})
afterAll(() => stack.disposeAsync())

describe('a program on the oras library', () => {
  const oras = async (...args: readonly string[]): Promise<unknown> =>
    JSON.parse(await client.run(goTool('oras-client'), args))
  const digestOf = (descriptor: unknown): string => String(Object(descriptor).digest)
  const digestsOf = (descriptors: unknown): string[] =>
    Array.isArray(descriptors) ? descriptors.map(digestOf) : []

  it('pushes and pulls a file', async () => {
    const image = `${server.host}/oras/go:pushed`
    const pushed = await oras('push', image, artifactType, 'disk.img')
    expect((await fetchManifest(server, 'oras/go', 'pushed')).digest).toBe(digestOf(pushed))
    const target = join(client.folder, 'pulled')
    expect(await oras('pull', image, target)).toMatchObject({ digest: digestOf(pushed) })
    expect((await readFile(join(target, 'disk.img'))).equals(disk)).toBe(true)
  })

  it('attaches to a manifest and discovers what is attached, by type', async () => {
    const image = `${server.host}/oras/go:subject`
    await oras('push', image, artifactType, 'disk.img')
    const attached = await oras('attach', image, 'example/report', 'report.json')
    const other = await oras('attach', image, 'example/other', 'report.json')
    const all = digestsOf(await oras('discover', image))
    expect(all.toSorted()).toEqual([digestOf(attached), digestOf(other)].toSorted())
    const found = await oras('discover', image, 'example/report')
    expect(found).toMatchObject([{ digest: digestOf(attached), artifactType: 'example/report' }])
    expect(await oras('discover', image, 'example/none')).toEqual([])
  })

  it('copies an index with all that is attached to it and to its images', async () => {
    const name = `${server.host}/oras/indexed`
    for (const tag of ['a', 'b']) {
      await writeFile(join(client.folder, `${tag}.img`), randomBytes(1000))
      await oras('push', `${name}:${tag}`, artifactType, `${tag}.img`)
    }
    const index = digestOf(await oras('index', `${name}:all`, 'a', 'b'))
    const ofIndex = digestOf(await oras('attach', `${name}:all`, 'example/report', 'report.json'))
    const ofImage = digestOf(await oras('attach', `${name}:b`, 'example/report', 'report.json'))
    const ofReport = digestOf(
      await oras('attach', `${name}@${ofImage}`, 'example/x', 'report.json'),
    )

    await using other = await startDvcr({ data: join(client.folder, 'other') })
    const copy = `${other.host}/copied`
    await oras('cp', `${name}:all`, `${copy}:all`)
    expect((await fetchManifest(other, 'copied', 'all')).digest).toBe(index)
    const [, b] = (await fetchManifest(other, 'copied', 'all')).manifests ?? []
    expect(digestsOf(await oras('discover', `${copy}:all`))).toEqual([ofIndex])
    expect(digestsOf(await oras('discover', `${copy}@${b?.digest}`))).toEqual([ofImage])
    expect(digestsOf(await oras('discover', `${copy}@${ofImage}`))).toEqual([ofReport])
    const target = join(client.folder, 'copied')
    await oras('pull', `${copy}@${b?.digest}`, target)
    const original = await readFile(join(client.folder, 'b.img'))
    expect(await readFile(join(target, 'b.img'))).toEqual(original)
  })
})

describe('the oras package of Python', () => {
  const script = join(import.meta.dirname, 'oras-client.py')
  const oras = async (...args: readonly string[]): Promise<unknown> =>
    JSON.parse((await client.run(orasPython, [script, ...args])).split('\n').at(-1) ?? '')

  it.each(['push', 'push-chunked'])('pulls what it pushed (%s)', async (push) => {
    const image = `${server.host}/oras/python:${push}`
    expect(await oras(push, image, 'disk.img')).toBe(201)
    const target = join(client.folder, push)
    await mkdir(target)
    expect(await oras('pull', image, target)).toEqual([join(target, 'disk.img')])
    expect((await readFile(join(target, 'disk.img'))).equals(disk)).toBe(true)
  })

  it('attaches to a manifest', async () => {
    const image = `${server.host}/oras/attached:python`
    await oras('push', image, 'disk.img')
    const { digest } = await fetchManifest(server, 'oras/attached', 'python')
    expect(await oras('attach', image, 'report.json')).toBe(digest)
    const referrers = await fetch(`${server.url}/v2/oras/attached/referrers/${digest}`)
    const attached = (await fetchManifest(server, 'oras/attached', 'python-attached')).digest
    expect(await referrers.json()).toMatchObject({ manifests: [{ digest: attached }] })
  })

  it('lists tags and deletes one', async () => {
    const image = `${server.host}/oras/tags`
    for (const tag of ['b', 'a']) await oras('push', `${image}:${tag}`, 'disk.img')
    expect(await oras('tags', image)).toEqual(['a', 'b'])
    await oras('delete', `${image}:a`)
    expect(await statusOf(server, 'oras/tags', 'manifests/a')).toBe(404)
  })
})
