import { execa } from 'execa'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startDockerRegistry, startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { startVersitygw } from '../fixtures/versitygw.ts'
import { createSend } from './client.ts'
import { conformancePage } from './page.ts'
import { checksOf, runSuite, type Result } from './suite.ts'

const root = join(import.meta.dirname, '../..')
const page = join(root, 'docs/conformance.md')
const program = join(import.meta.dirname, 'main.ts')

const stack = new AsyncDisposableStack()
let registry: RunningServer
let ours: readonly Result[]
let onBucket: readonly Result[]

beforeAll(async () => {
  const folder = stack.use(await createTempFolder())
  const server = stack.use(await startDvcr({ data: join(folder.path, 'data') }))
  registry = stack.use(await startDockerRegistry())
  ours = await runSuite(createSend(server.url), 'main')
  const s3 = stack.use(await startVersitygw())
  const args = ['--s3-endpoint', s3.url]
  const other = stack.use(await startDvcr({ data: `s3://${s3.bucket}/store`, args }))
  onBucket = await runSuite(createSend(other.url), 'main')
})

afterAll(() => stack.disposeAsync())

describe('dvcr does what the OCI distribution spec says, on a folder and on S3', () => {
  it.each(checksOf('main').map((check, at) => ({ ...check, at })))('$endpoint $title', ({ at }) => {
    expect(ours[at]?.outcome).toEqual({ kind: 'passed' })
    expect(onBucket[at]?.outcome).toEqual({ kind: 'passed' })
  })
})

describe("Debian's docker-registry", () => {
  it('fails what docs/conformance.md says, and the page has our results', async () => {
    const theirs = await runSuite(createSend(registry.url), 'main')
    const version = (await execa('docker-registry', ['--version'])).stdout
    const theirName = `docker-registry ${/\d+\.\d+\.\d+/.exec(version)?.[0]}`
    await expect(conformancePage({ ours, theirs, theirName })).toMatchFileSnapshot(page)
  })

  it('makes the command end with 1 and its failures, at level 1.1', async () => {
    const command = await execa(process.execPath, [program, registry.url, '--level', '1.1'], {
      reject: false,
      cwd: root,
    })
    expect(command.exitCode).toBe(1)
    expect(command.stdout).toContain('failed: end-5 refuses a PATCH that skips bytes with 416')
    expect(command.stdout).toMatch(/ {2}all, level 1\.1$/)
  })
})
