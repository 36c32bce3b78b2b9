import { execa } from 'execa'
import { writeFile } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { mediaTypes } from '../../core/manifest.ts'
import { bootSectorDisk } from '../fixtures/boot-sector.ts'
import { writeOciLayout, type OciLayout } from '../fixtures/oci-layout.ts'
import { pushArtifact } from '../fixtures/pushed-artifact.ts'
import { startDockerRegistry, startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { startWebServer } from '../fixtures/web-server.ts'
import { robotToken } from '../fixtures/access-server.ts'
import { startAuthServer } from './auth-setup.ts'
import { dvcr } from './dvcr-command.ts'
import { createImportsApi } from './imports-api.ts'
import { printedImport } from './printed-import.ts'

const disk = bootSectorDisk({ size: 2 * 1024 * 1024 })
const owned = new AsyncDisposableStack()
let folder: string
let layout: OciLayout
let server: RunningServer
let peer: RunningServer

beforeAll(async () => {
  folder = owned.use(await createTempFolder()).path
  layout = await writeOciLayout(folder)
  server = owned.use(await startDvcr({ data: join(folder, 'data') }))
  peer = owned.use(await startDockerRegistry())
  const copy = ['--insecure-policy', 'copy', '--quiet', '--all', '--dest-tls-verify=false']
  for (const { host } of [server, peer]) {
    await execa('skopeo', [...copy, `oci:${layout.path}:latest`, `docker://${host}/all:latest`])
  }
  await writeFile(join(folder, 'disk.raw'), disk)
})
afterAll(() => owned.disposeAsync())

async function importByCommand(source: string, image: string, ...flags: readonly string[]) {
  return printedImport(
    await dvcr(['import', source, image, '--server', server.url, '--json', ...flags]),
  )
}

/** The layer that the disk's file gives, imported by itself. */
async function layerOf(contents: Uint8Array): Promise<string> {
  const path = join(folder, 'alone.raw')
  await writeFile(path, contents)
  return (await importByCommand(path, 'alone', '--replace')).layerDigest
}

async function failureOf(source: string): Promise<string | undefined> {
  const record = await createImportsApi(server.url).run({ source, name: 'refused', replace: true })
  return record.error?.code
}

describe('a container disk', () => {
  it.each([
    ['docker-registry', () => peer],
    ['this server itself', () => server],
  ])('is imported from %s, by platform', async (_what, from) => {
    const source = `docker://${from().host}/all`
    for (const [index, image] of layout.images.entries()) {
      const { architecture, disk: contents } = image
      const printed = await importByCommand(
        source,
        `from:${index}`,
        '--arch',
        architecture,
        '--replace',
      )
      expect(printed.layerDigest).toBe(await layerOf(contents))
    }
    const byDigest = await importByCommand(
      `docker://${from().host}/all@${layout.images[1].digest}`,
      'from:digest',
      '--replace',
    )
    expect(byDigest.layerDigest).toBe(await layerOf(layout.images[1].disk))
  })

  it('is imported from a folder', async () => {
    const printed = await importByCommand(`oci:${layout.path}:latest`, 'from:folder')
    expect(printed.layerDigest).toBe(await layerOf(layout.images[0].disk))
    const untagged = await importByCommand(`oci:${layout.path}`, 'from:folder-2')
    expect(untagged.layerDigest).toBe(printed.layerDigest)
    const missing = await dvcr(['import', `oci:${layout.path}:no`, 'x', '--server', server.url])
    expect(missing.stderr).toContain('its tags are: latest')
  })

  it('that we have stored gives the same image again', async () => {
    const first = await importByCommand(join(folder, 'disk.raw'), 'first:1')
    const again = await importByCommand(`docker://${server.host}/first:1`, 'again:1')
    expect(again).toMatchObject({ format: 'qcow2', layerDigest: first.layerDigest })
  })

  it('has its layers compared with their digests', async () => {
    await using other = await startDockerRegistry()
    const bytes = Buffer.from(gzipSync(disk))
    const source = await pushArtifact(other, 'damaged', [{ mediaType: 'a/b', bytes }])
    expect(await failureOf(source)).toBeUndefined()
    const damaged = Buffer.from(bytes)
    damaged[damaged.length - 20] = (damaged[damaged.length - 20] ?? 0) ^ 1
    const pass = async ({ url = '' }: IncomingMessage, response: ServerResponse): Promise<void> => {
      if (url.endsWith(digestOf(bytes))) return void response.end(damaged)
      const answer = await fetch(other.url + url, { headers: { accept: mediaTypes.ociManifest } })
      response.writeHead(answer.status, { 'content-type': mediaTypes.ociManifest })
      response.end(await answer.text())
    }
    await using lying = await startWebServer((request, response) => void pass(request, response))
    expect(await failureOf(`docker://${new URL(lying.origin).host}/damaged:1`)).toMatch(
      /^(?:CHECKSUM_MISMATCH|COMPRESSION_INVALID)$/,
    )
  })

  it('of an artifact is its one layer, wrapped or not', async () => {
    const expected = await layerOf(disk)
    const layers = [
      { mediaType: 'application/vnd.kubevirt.disk.raw', bytes: disk },
      { mediaType: 'application/vnd.kubevirt.disk.raw+gzip', bytes: Buffer.from(gzipSync(disk)) },
    ]
    for (const [index, layer] of layers.entries()) {
      const source = await pushArtifact(peer, `artifact-${index}`, [layer])
      const printed = await importByCommand(source, `artifact:${index}`)
      expect(printed.layerDigest).toBe(expected)
    }
  })

  it('is refused where it is none, and says why', async () => {
    const tar = { mediaType: mediaTypes.ociLayer, bytes: Buffer.alloc(1024) }
    const none = await pushArtifact(peer, 'none', [tar, tar])
    expect(await failureOf(none)).toBe('SOURCE_NOT_FOUND')
    expect(await failureOf(`docker://${peer.host}/missing:1`)).toBe('SOURCE_NOT_FOUND')
    const foreign = { ...tar, urls: ['http://169.254.169.254/'] }
    expect(await failureOf(await pushArtifact(server, 'foreign', [foreign]))).toBe('IMAGE_UNSAFE')
    const other = await dvcr([
      'import',
      `docker://${peer.host}/all`,
      'x',
      '--server',
      server.url,
      '--arch',
      's390x',
    ])
    expect(other.stderr).toContain('has no image for s390x; it has: amd64, arm64')
  })

  it('is read with the login that docker keeps, by the command', async () => {
    await using guarded = await startAuthServer()
    const env = { DOCKER_CONFIG: join(folder, 'docker') }
    const login = ['login', guarded.host, '-u', 'ci', '--password-stdin']
    await dvcr(login, { env, input: Buffer.from(robotToken) })
    const copy = ['--insecure-policy', 'copy', '--quiet', '--all', '--dest-tls-verify=false']
    const target = `docker://${guarded.host}/team/all:1`
    await execa('skopeo', [
      ...copy,
      `--dest-creds=ci:${robotToken}`,
      `oci:${layout.path}:latest`,
      target,
    ])
    expect(await failureOf(target)).toBe('SOURCE_DENIED')
    const into = ['--data', join(folder, 'own'), '--json']
    const outcome = await dvcr(['import', target, 'mine:1', ...into], { env })
    expect(printedImport(outcome).layerDigest).toBe(await layerOf(layout.images[0].disk))
  })
})
