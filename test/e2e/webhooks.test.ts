import { createHmac, randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { bootSectorDisk } from '../fixtures/boot-sector.ts'
import { startMisbehavingServer } from '../fixtures/misbehaving.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { startWebhookReceiver, type WebhookReceiver } from '../fixtures/webhook-receiver.ts'
import { createImportsApi } from './imports-api.ts'
import { jsonLines } from './json-lines.ts'

const manifestType = 'application/vnd.oci.image.manifest.v1+json'
const octets = { 'content-type': 'application/octet-stream' }

interface Setup extends AsyncDisposable {
  readonly server: RunningServer
  readonly folder: string
  readonly config: string
}

/** A server with one webhook at `url`. */
async function start(url: string, folder: string, more: object = {}): Promise<Setup> {
  const config = join(folder, 'settings.yaml')
  // JSON is YAML.
  await writeFile(config, JSON.stringify({ webhooks: [{ name: 'ci', url, ...more }] }))
  const server = await startDvcr({ data: join(folder, 'data'), args: ['--config', config] })
  return { server, folder, config, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() }
}

async function pushBlob(server: RunningServer, name: string, bytes: Uint8Array): Promise<string> {
  const digest = digestOf(bytes)
  const url = `${server.url}/v2/${name}/blobs/uploads/?digest=${digest}`
  const body = Buffer.from(bytes)
  expect((await fetch(url, { method: 'POST', headers: octets, body })).status).toBe(201)
  return digest
}

async function pushImage(server: RunningServer, name: string, tag: string) {
  const config = Buffer.from('{}')
  await pushBlob(server, name, config)
  const layer = randomBytes(100)
  await pushBlob(server, name, layer)
  const manifest = JSON.stringify({
    schemaVersion: 2,
    mediaType: manifestType,
    config: { mediaType: 'application/vnd.oci.empty.v1+json', digest: digestOf(config), size: 2 },
    layers: [{ mediaType: 'application/x', digest: digestOf(layer), size: layer.length }],
  })
  const url = `${server.url}/v2/${name}/manifests/${tag}`
  const headers = { 'content-type': manifestType, 'user-agent': 'test/1', 'x-request-id': 'put-1' }
  expect((await fetch(url, { method: 'PUT', headers, body: manifest })).status).toBe(201)
  return { digest: digestOf(Buffer.from(manifest)), size: manifest.length }
}

const actionsOf = (receiver: WebhookReceiver) =>
  receiver.events().map(({ action, target }) => `${action} ${target.tag ?? '-'}`)

it('tells of pushes and deletes in the form of registry:2, signed', async () => {
  await using receiver = await startWebhookReceiver()
  await using folder = await createTempFolder()
  const authorizationFile = join(folder.path, 'authorization')
  const secretFile = join(folder.path, 'secret')
  await writeFile(authorizationFile, 'Bearer of-the-receiver\n')
  await writeFile(secretFile, 'key\n')
  const headers = { 'x-from': 'dvcr' }
  const more = { authorizationFile, secretFile, headers }
  await using setup = await start(receiver.url, folder.path, more)
  const { server } = setup
  const { digest, size } = await pushImage(server, 'some/image', 'v1')
  const tag = `${server.url}/v2/some/image/manifests/v1`
  expect((await fetch(tag)).status).toBe(200)
  expect((await fetch(tag, { method: 'DELETE' })).status).toBe(202)
  expect((await fetch(tag, { method: 'DELETE' })).status).toBe(404)
  const whole = `${server.url}/v2/some/image/manifests/${digest}`
  expect((await fetch(whole, { method: 'DELETE' })).status).toBe(202)
  await expect
    .poll(() => actionsOf(receiver))
    .toEqual(['push -', 'push -', 'push v1', 'delete v1', 'delete -'])
  expect(receiver.events()[2]).toMatchObject({
    action: 'push',
    target: {
      mediaType: manifestType,
      digest,
      size,
      length: size,
      repository: 'some/image',
      tag: 'v1',
      url: `${server.url}/v2/some/image/manifests/${digest}`,
    },
    request: {
      id: 'put-1',
      addr: '127.0.0.1',
      host: server.host,
      method: 'PUT',
      useragent: 'test/1',
    },
    actor: {},
    source: { addr: expect.any(String), instanceID: expect.any(String) },
  })
  expect(receiver.events()[4]?.target).toEqual({ repository: 'some/image', digest })
  for (const request of receiver.requests) {
    expect(request.headers).toMatchObject({
      'content-type': 'application/vnd.docker.distribution.events.v2+json',
      authorization: 'Bearer of-the-receiver',
      'x-from': 'dvcr',
      'x-hub-signature-256': `sha256=${createHmac('sha256', 'key').update(request.body).digest('hex')}`,
    })
  }
})

it('tells of imports and of what the image API changes', async () => {
  await using receiver = await startWebhookReceiver()
  await using source = await startMisbehavingServer(bootSectorDisk({ size: 1024 * 1024 }))
  await using folder = await createTempFolder()
  await using setup = await start(receiver.url, folder.path)
  const { url } = setup.server
  const { state } = await createImportsApi(url).run({ source: source.url('good'), name: 'disk' })
  expect(state).toBe('succeeded')
  expect((await fetch(`${url}/v1/image/disk/tags/two`, { method: 'PUT' })).status).toBe(201)
  expect((await fetch(`${url}/v1/image/disk%3Atwo`, { method: 'DELETE' })).status).toBe(204)
  const expected = ['push latest', 'push two', 'delete two']
  await expect.poll(() => actionsOf(receiver)).toEqual(expected)
  expect(receiver.events()[0]?.target).toMatchObject({
    repository: 'disk',
    mediaType: manifestType,
  })
})

it('neither slows nor fails a push where the receiver hangs, and loses nothing by a restart', async () => {
  await using receiver = await startWebhookReceiver()
  await using folder = await createTempFolder()
  receiver.answer('never')
  {
    await using setup = await start(receiver.url, folder.path)
    const started = performance.now()
    for (let index = 0; index < 5; index += 1) await pushImage(setup.server, 'a', `v${index}`)
    expect(performance.now() - started).toBeLessThan(8000)
    const metrics = await (await fetch(`${setup.server.url}/metrics`)).text()
    expect(metrics).toContain('dvcr_webhook_events_waiting{webhook="ci"} 15')
    expect(await setup.server.stop()).toBe(0)
  }
  receiver.answer(200)
  await using again = await start(receiver.url, folder.path)
  expect(again.server.isRunning()).toBe(true)
  await expect.poll(() => receiver.events().length).toBe(15)
  const tags = actionsOf(receiver).filter((one) => !one.endsWith('-'))
  expect(tags).toEqual(['push v0', 'push v1', 'push v2', 'push v3', 'push v4'])
})

it('uses other receivers after SIGHUP', async () => {
  await using first = await startWebhookReceiver()
  await using second = await startWebhookReceiver()
  await using folder = await createTempFolder()
  await using setup = await start(first.url, folder.path)
  const { server, config } = setup
  const webhooks = [{ name: 'other', url: second.url, repositories: ['b'] }]
  await writeFile(config, JSON.stringify({ webhooks }))
  process.kill(server.pid, 'SIGHUP')
  const lines = () => jsonLines(server.output()).filter(({ msg }) => msg === 'settings reloaded')
  await expect.poll(lines).toHaveLength(1)
  await pushImage(server, 'a', 'v1')
  await pushImage(server, 'b', 'v1')
  await expect.poll(() => actionsOf(second)).toEqual(['push -', 'push -', 'push v1'])
  expect(first.requests).toEqual([])
})
