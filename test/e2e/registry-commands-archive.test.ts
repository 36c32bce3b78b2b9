import { execa } from 'execa'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { keys } from '../../registry/keys.ts'
import { pointerRecord } from '../../registry/records.ts'
import { openS3Store } from '../../registry/stores/s3.ts'
import { readVersioned } from '../../registry/versioned.ts'
import { pullEverything, pushBlobOver, pushOver } from '../fixtures/admin-commands.ts'
import { robotToken } from '../fixtures/access-server.ts'
import { writeOciLayout, type OciLayout } from '../fixtures/oci-layout.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { startVersitygw } from '../fixtures/versitygw.ts'
import { startAuthServer } from './auth-setup.ts'
import { dvcr, startCommand, type Outcome } from './dvcr-command.ts'
import { isNightly } from './nightly.ts'
import { createSeededRandom } from './seeded-random.ts'

const mib = 1024 * 1024
const owned = new AsyncDisposableStack()
let folder: string
let layout: OciLayout
let server: RunningServer
/** Of a server with an index of two images and a larger image. */
let archive: string

beforeAll(async () => {
  folder = owned.use(await createTempFolder()).path
  layout = await writeOciLayout(folder)
  server = owned.use(await startDvcr({ data: join(folder, 'data') }))
  await pushLayout('all', 'latest')
  await pushOver(server.url, 'large', '1', { layerBytes: 40 * mib })
  archive = join(folder, 'backup.tar')
  await registry(server, 'export', '--to', archive)
})
afterAll(() => owned.disposeAsync())

async function pushLayout(name: string, tag: string): Promise<void> {
  const args = ['--insecure-policy', 'copy', '--quiet', '--all', '--preserve-digests']
  const target = `docker://${server.host}/${name}:${tag}`
  await execa('skopeo', [...args, '--dest-tls-verify=false', `oci:${layout.path}:latest`, target])
}

/** Runs `dvcr registry …` to a good end. */
async function registry(at: RunningServer, ...args: readonly string[]): Promise<Outcome> {
  const outcome = await dvcr(['registry', ...args, '--server', at.url])
  if (outcome.exitCode === 0) return outcome
  throw new Error(`${args.join(' ')}: ${outcome.stderr}\nserver:\n${at.output()}`)
}

const startServer = async (name: string): Promise<RunningServer> =>
  startDvcr({ data: join(folder, name) })

it('a backup made while images come and go is whole, and restores to a store that is well', async () => {
  const { signal, stop } = createStop()
  const pushing = Promise.all([
    repeat(signal, async (round) => pushLayout('skopeo', `t${round % 3}`)),
    repeat(signal, async (round) => void (await pushOver(server.url, 'http', `t${round % 3}`))),
    repeat(signal, async () => {
      const { digest } = await pushOver(server.url, 'deleted', 'soon')
      await fetch(`${server.url}/v2/deleted/manifests/${digest}`, { method: 'DELETE' })
    }),
  ])
  for (let round = 0; round < 2; round++) {
    const tar = join(folder, `busy-${round}.tar`)
    const { stdout } = await registry(server, 'export', '--to', tar, '--json')
    expect(JSON.parse(stdout)).toMatchObject({ leftOut: [], archiveBytes: (await stat(tar)).size })
    await using other = await startServer(`busy-${round}`)
    await registry(other, 'import', '--from', tar)
    await registry(other, 'fsck', '--data-digests')
    const restored = await pullEverything(other.url)
    expect(restored).toHaveProperty('all:latest', layout.index.digest)
    expect(Object.keys(restored)).toContain('large:1')
  }
  stop()
  await pushing
  await registry(server, 'rm', 'skopeo', '--yes')
  await registry(server, 'fsck')
})

function createStop() {
  const controller = new AbortController()
  return { signal: controller.signal, stop: () => controller.abort() }
}

async function repeat(signal: AbortSignal, act: (round: number) => Promise<void>): Promise<void> {
  for (let round = 0; !signal.aborted; round++) await act(round)
}

it('a restored registry is the same, by standard output and input too', async () => {
  await using quiet = await startServer('quiet')
  await registry(quiet, 'import', '--from', archive)
  await using copy = await startServer('copy')
  const from = ['registry', 'export', '--to', '-', '--server', quiet.url]
  const into = ['registry', 'import', '--from', '-', '--server', copy.url]
  const exported = execa(join(import.meta.dirname, '../../bin/dvcr'), from, { encoding: 'buffer' })
  await exported.pipe(join(import.meta.dirname, '../../bin/dvcr'), into)
  expect(await pullEverything(copy.url)).toEqual(await pullEverything(quiet.url))
  await registry(copy, 'fsck', '--data-digests')
})

it('an import whose server is killed goes on when it is run again', async () => {
  const whole = JSON.parse((await registry(server, 'export', '--to', archive, '--json')).stdout)
  const random = createSeededRandom(7)
  const rounds = isNightly ? 20 : 3
  for (let round = 0; round < rounds; round++) {
    const data = join(folder, `killed-${round}`)
    {
      await using victim = await startDvcr({ data })
      const running = startCommand([
        'registry',
        'import',
        '--from',
        archive,
        '--server',
        victim.url,
      ])
      await sleep(100 + random() * 500)
      await victim.kill9()
      const { exitCode } = await running.ended
      // It may have been done already.
      expect([0, 3]).toContain(exitCode)
    }
    await using again = await startDvcr({ data })
    await registry(again, 'fsck', '--data-digests')
    const { stdout } = await registry(again, 'import', '--from', archive, '--json')
    expect(JSON.parse(stdout)).toMatchObject({ leftOut: [], blobs: whole.blobs })
    await registry(again, 'fsck', '--data-digests')
    expect(await pullEverything(again.url)).toHaveProperty('all:latest', layout.index.digest)
  }
})

it('an export that is interrupted leaves no file that looks like a backup', async () => {
  const target = join(folder, 'interrupted.tar')
  const running = startCommand(['registry', 'export', '--to', target, '--server', server.url])
  await expect.poll(async () => (await readdir(folder)).includes('interrupted.tar.part')).toBe(true)
  running.kill('SIGINT')
  const { exitCode } = await running.ended
  expect([0, 130]).toContain(exitCode)
  const left = (await readdir(folder)).filter((name) => name.startsWith('interrupted'))
  expect(left).toEqual(exitCode === 0 ? ['interrupted.tar'] : [])
})

it('an operator with a login imports and exports', async () => {
  await using guarded = await startAuthServer()
  const config = join(folder, 'docker')
  const env = { DOCKER_CONFIG: config }
  const program = join(import.meta.dirname, '../../bin/dvcr')
  const login = ['login', guarded.host, '-u', 'ci', '--password-stdin']
  await execa(program, login, { env, input: robotToken })
  const into = ['registry', 'import', '--from', archive, '--server', guarded.url]
  const { stdout } = await execa(program, into, { env })
  expect(stdout).toMatch(/^\d+ repositories, \d+ tags/)
})

it('a backup goes from a folder into a bucket, where damage is found too', async () => {
  await using s3 = await startVersitygw()
  const place = `s3://${s3.bucket}/store`
  const args = ['--s3-endpoint', s3.url]
  await using bucket = await startDvcr({ data: place, args })
  await registry(bucket, 'import', '--from', archive)
  await registry(bucket, 'fsck', '--data-digests')
  await registry(bucket, 'scrub', '--rate', '10Gi')
  const tar = join(folder, 'from-bucket.tar')
  await registry(bucket, 'export', '--to', tar)
  expect((await stat(tar)).size).toBeGreaterThan(40 * mib)
  const { digest, layer, blobs } = await pushOver(bucket.url, 'hurt', '1')
  {
    await using storage = await openS3Store({
      endpoint: s3.url,
      bucket: s3.bucket,
      prefix: 'store',
    })
    const pointer = await readVersioned(storage.objects, pointerRecord, keys.pointer(layer))
    await storage.data.delete({ data: pointer?.record.data ?? '' })
  }
  const fsck = await dvcr(['registry', 'fsck', '--server', bucket.url])
  expect(fsck.exitCode).toBe(1)
  expect(fsck.stdout).toContain(`error data-missing ${keys.pointer(layer)}`)
  const scrub = await dvcr(['registry', 'scrub', '--rate', '10Gi', '--server', bucket.url])
  expect(scrub.stdout).toContain(`${layer}: `)
  await pushBlobOver(bucket.url, 'hurt', blobs.get(layer) ?? Buffer.of())
  await registry(bucket, 'fsck', '--data-digests')
  expect(await pullEverything(bucket.url)).toHaveProperty('hurt:1', digest)
})
