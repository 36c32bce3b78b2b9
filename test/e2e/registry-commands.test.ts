import { readFile, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestHex, parseDigest } from '../../core/digest.ts'
import { keys } from '../../registry/keys.ts'
import { pullEverything, pushBlobOver, pushOver } from '../fixtures/admin-commands.ts'
import { bootSectorDisk } from '../fixtures/boot-sector.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { startAuthServer } from './auth-setup.ts'
import { dvcr } from './dvcr-command.ts'
import { robotToken } from '../fixtures/access-server.ts'

const mib = 1024 * 1024
const owned = new AsyncDisposableStack()
let folder: string
let data: string
let config: string
let server: RunningServer

const settings = {
  quotas: [
    { prefix: '', limit: '1Gi' },
    { prefix: 'team/', limit: '2Mi' },
  ],
  retention: [{ repositories: ['ci/**'], keepLast: 1 }],
  immutableTags: [{ repositories: ['prod/*'], tags: ['v*'] }],
  webhooks: [{ name: 'nobody', url: 'http://127.0.0.1:9/' }],
}

beforeAll(async () => {
  folder = owned.use(await createTempFolder()).path
  data = join(folder, 'data')
  config = join(folder, 'config.yaml')
  await writeFile(config, JSON.stringify(settings))
  server = owned.use(await startDvcr({ data, args: ['--config', config] }))
  await pushOver(server.url, 'team/a', '1')
  await pushOver(server.url, 'team/a', '2')
  await pushOver(server.url, 'ci/build', '1')
  await pushOver(server.url, 'ci/build', '2')
  await pushOver(server.url, 'prod/app', 'v1')
  const disk = join(folder, 'disk.raw')
  await writeFile(disk, bootSectorDisk({ size: 4 * mib }))
  await dvcr(['import', disk, 'disks/small:1', '--server', server.url])
})
afterAll(() => owned.disposeAsync())

/** Runs `dvcr registry …` against the server. */
const run = (...args: readonly string[]) => dvcr(['registry', ...args, '--server', server.url])

async function json(...args: readonly string[]): Promise<unknown> {
  const { stdout, stderr, exitCode } = await run(...args, '--json')
  expect({ stderr, exitCode }).toEqual({ stderr: '', exitCode: 0 })
  return JSON.parse(stdout)
}

/** Where the bytes of a blob lie. */
async function dataPath(digest: string): Promise<string> {
  const record = await readFile(join(data, keys.pointer(parseDigest(digest))), 'utf8')
  return join(data, keys.data(JSON.parse(record).data))
}

describe('dvcr registry ls', () => {
  it('shows every repository with what it holds', async () => {
    expect(await json('ls')).toMatchObject([
      { name: 'ci/build', tags: 2, manifests: 2, blobs: 4 },
      { name: 'disks/small', tags: 1, manifests: 1 },
      { name: 'prod/app', tags: 1, manifests: 1, blobs: 2 },
      { name: 'team/a', tags: 2, manifests: 2, blobs: 4, lastPush: expect.any(String) },
    ])
    const { stdout } = await run('ls')
    expect(stdout).toMatch(/^REPOSITORY +TAGS +MANIFESTS +BLOBS +SIZE +LAST PUSH$/m)
    expect(stdout).toMatch(/^team\/a +2 +2 +4 +195\.\d KiB +20\d\d-/m)
  })

  it('shows the manifests of one, also without a tag, and says where there is none', async () => {
    const before = await pushOver(server.url, 'team/one', 'moved')
    const after = await pushOver(server.url, 'team/one', 'moved')
    expect(await json('ls', 'team/one')).toMatchObject({
      manifests: [
        { digest: after.digest, tags: ['moved'] },
        { digest: before.digest, tags: [] },
      ],
    })
    const { exitCode, stderr } = await run('ls', 'none')
    expect(exitCode).toBe(1)
    expect(stderr).toContain('dvcr: NAME_UNKNOWN: no repository none')
  })
})

describe('dvcr registry quota', () => {
  it('shows what is used; pushes beyond it are refused with both figures', async () => {
    const shown = await json('quota')
    expect(shown).toMatchObject([
      { prefix: '', limitBytes: 1024 * mib },
      { prefix: 'team/', limitBytes: 2 * mib },
    ])
    const large = Buffer.alloc(2 * mib)
    await expect(pushBlobOver(server.url, 'team/a', large)).rejects.toThrow(
      /403.*use \d+ of 2097152 bytes/,
    )
    expect(await json('quota')).toEqual(shown)
    expect(await json('quota', '--recount')).toEqual(shown)
  })
})

describe('dvcr registry gc', () => {
  it('says what it would remove, then has it removed', async () => {
    const dry = await run('gc', '--dry-run')
    expect(dry.stdout).toContain('1 tags that retention does not keep')
    expect(dry.stdout).toContain('dry run')
    expect(await pullEverything(server.url)).toHaveProperty('ci/build:1')
    expect(await json('gc')).toMatchObject({ report: { dryRun: false, expiredTags: 1 } })
    await expect.poll(() => pullEverything(server.url)).not.toHaveProperty('ci/build:1')
    expect(await pullEverything(server.url)).toHaveProperty('ci/build:2')
    const metrics = await (await fetch(`${server.url}/metrics`)).text()
    expect(metrics).toMatch(/^dvcr_gc_pending \d+$/m)
    expect(metrics).toMatch(/^dvcr_gc_last_sweep_timestamp_seconds 1\d{9}/m)
    expect(metrics).toMatch(/^dvcr_quota_used_bytes\{prefix="team\/"\} \d{5,}$/m)
    expect(metrics).toMatch(/^dvcr_quota_limit_bytes\{prefix="team\/"\} 2097152$/m)
  })
})

describe('dvcr registry rm', () => {
  it('removes a repository, but none with an immutable tag, and asks before', async () => {
    await pushOver(server.url, 'team/gone', '1')
    const unasked = await run('rm', 'team/gone')
    expect(unasked).toMatchObject({ exitCode: 2, stdout: '' })
    expect(unasked.stderr).toContain('--yes')
    expect((await run('rm', 'prod/app', '--yes')).stderr).toContain('TAG_IMMUTABLE')
    expect(await json('rm', 'team/gone', '--yes')).toMatchObject({
      tags: 1,
      manifests: 1,
      blobs: 2,
    })
    expect((await run('rm', 'team/gone', '--yes')).stderr).toContain('NAME_UNKNOWN')
    const listed = JSON.stringify(await json('ls'))
    expect(listed).not.toContain('team/gone')
    expect(listed).toContain('prod/app')
  })
})

describe('dvcr registry fsck and scrub', () => {
  it('find nothing in a store at work', async () => {
    const { exitCode, stdout } = await run('fsck', '--data-digests')
    expect(stdout).toMatch(/^0 errors, 0 notes; \d+ looked at, [\d.]+ [KM]iB read$/m)
    expect(exitCode).toBe(0)
    expect(await json('scrub', '--rate', '10Gi')).toMatchObject({ damaged: 0, blobsFound: [] })
    expect(await json('scrub', '--list')).toMatchObject({ running: false, blobs: [] })
    const metrics = await (await fetch(`${server.url}/metrics`)).text()
    expect(metrics).toMatch(/^dvcr_scrub_progress_ratio 1$/m)
  })

  it('find damage while the server serves; what is pushed again is well', async () => {
    const flipped = await pushOver(server.url, 'hurt/flipped', '1')
    const lost = await pushOver(server.url, 'hurt/lost', '1')
    const bytes = await readFile(await dataPath(flipped.layer))
    bytes.writeUInt8(bytes.readUInt8(77) ^ 255, 77)
    await writeFile(await dataPath(flipped.layer), bytes)
    await unlink(await dataPath(lost.layer))

    const fsck = await run('fsck', '--data-digests')
    expect(fsck.exitCode).toBe(1)
    expect(fsck.stdout).toMatch(
      new RegExp(
        `^error data-missing v1/blobs/.*${digestHex(lost.layer)}.json: .*push it again$`,
        'm',
      ),
    )
    expect(fsck.stdout).toMatch(
      new RegExp(`^error data-differs v1/blobs/.*${digestHex(flipped.layer)}.json: `, 'm'),
    )
    expect(fsck.stderr).toContain('DAMAGE_FOUND: the store has 2 errors')

    const scrub = await run('scrub', '--rate', '10Gi')
    expect(scrub.exitCode).toBe(1)
    expect(scrub.stdout).toContain(`${flipped.layer}: its bytes have the digest sha256:`)
    expect(scrub.stdout).toContain(`${lost.layer}: `)
    const blobUrl = `${server.url}/v2/hurt/flipped/blobs/${flipped.layer}`
    expect((await fetch(blobUrl, { method: 'HEAD' })).status).toBe(404)
    expect((await run('scrub', '--list')).stdout).toContain('push it again')

    for (const [name, image] of [
      ['hurt/flipped', flipped],
      ['hurt/lost', lost],
    ] as const) {
      await pushBlobOver(server.url, name, image.blobs.get(image.layer) ?? Buffer.of())
    }
    expect((await run('scrub', '--list')).stdout.match(/pushed again/g)).toHaveLength(2)
    expect(await json('scrub', '--purge')).toMatchObject({ blobs: 2 })
    expect((await run('fsck', '--data-digests')).stdout).toMatch(/^0 errors, 0 notes/m)
    expect(await pullEverything(server.url)).toHaveProperty(`hurt/flipped@${flipped.layer}`)
  })
})

describe('an operator', () => {
  it('needs the rights of an administrator', async () => {
    await using guarded = await startAuthServer()
    const args = ['registry', 'ls', '--server', guarded.url]
    const unknown = await dvcr(args)
    expect(unknown).toMatchObject({ exitCode: 1, stdout: '' })
    expect(unknown.stderr).toContain('UNAUTHORIZED')
    for (const path of ['gc', 'scrub', 'repositories', 'quotas', 'export', 'quarantine']) {
      expect((await fetch(`${guarded.url}/v1/registry/${path}`)).status).toBe(401)
    }
    for (const path of ['gc', 'fsck', 'scrub', 'import', 'quotas/recount']) {
      const response = await fetch(`${guarded.url}/v1/registry/${path}`, { method: 'POST' })
      expect(response.status).toBe(401)
    }
    const authorization = `Basic ${Buffer.from(`ci:${robotToken}`).toString('base64')}`
    const headers = { authorization }
    const response = await fetch(`${guarded.url}/v1/registry/repositories`, { headers })
    expect(await response.text()).toBe('{"end":true}\n')
  })

  it('can work on a store without a server, and is told where a server has it', async () => {
    const locked = await dvcr(['registry', 'ls', '--data', data])
    expect(locked.exitCode).toBe(3)
    expect(locked.stderr).toContain('STORE_LOCKED')
    await using alone = await createTempFolder()
    const path = join(alone.path, 'data')
    {
      await using other = await startDvcr({ data: path })
      await pushOver(other.url, 'a', '1')
      await other.stop()
    }
    const offline = (...args: readonly string[]) => dvcr(['registry', ...args, '--data', path])
    expect((await offline('ls')).stdout).toMatch(/^a +1 +1 +2 /m)
    expect(await offline('fsck', '--data-digests')).toMatchObject({ exitCode: 0 })
    expect(await offline('scrub')).toMatchObject({ exitCode: 0 })
    expect((await offline('gc', '--dry-run')).stdout).toContain('no garbage')
    // With the settings of its server the quotas count what is there already.
    const counted = await offline('quota', '--recount', '--config', config, '--json')
    expect(JSON.parse(counted.stdout)).toMatchObject([
      { prefix: '', usedBytes: expect.any(Number) },
      {},
    ])
    expect(JSON.parse(counted.stdout)[0].usedBytes).toBeGreaterThan(100_000)
  })

  it('is told which rule of the settings is wrong', async () => {
    const file = join(folder, 'wrong.yaml')
    await writeFile(file, JSON.stringify({ retention: [{ repositories: [], keepLast: -1 }] }))
    const { exitCode, stderr } = await dvcr([
      'serve',
      '--config',
      file,
      '--data',
      join(folder, 'x'),
    ])
    expect(exitCode).toBe(2)
    expect(stderr).toMatch(/SETTING_INVALID: .*retention\.0\.repositories.*retention\.0\.keepLast/)
  })
})
