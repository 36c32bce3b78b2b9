import { execa } from 'execa'
import { lstat, mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { startDockerRegistry, startDvcr } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { measure, type Usage } from './process-usage.ts'

/** `dvcr`: ours. `plain`, `tuned`: two pipelines of common tools, see import-by-tools.sh. */
export type Contestant = 'dvcr' | 'plain' | 'tuned'

/** One measured import; sizes in bytes. */
export interface ImportRun extends Usage {
  /** Written to disk beside the stored blobs. */
  readonly scratchBytes: number
  /** The layer in the registry. */
  readonly storedBytes: number
}

export interface ImportTask {
  readonly url: string
  /** Says what the URL holds: `debian.raw.gz`. */
  readonly fileName: string
  /** Imported before the clock starts, so that our server's code is compiled; other contents. */
  readonly warmUpUrl: string
  /** Called after the clock stopped, with a registry that has the image. */
  readonly check: (image: { registryUrl: string; name: string; tag: string }) => Promise<void>
  readonly signal: AbortSignal
}

/** Of what `dvcr import --json` prints. */
const printedSchema = z.object({ scratchBytes: z.number(), storedSize: z.number() })

const name = 'bench/disk'
const tag = 'imported'
const dvcrProgram = join(import.meta.dirname, '../../bin/dvcr')
const toolsScript = join(import.meta.dirname, 'import-by-tools.sh')

/** One import into an empty store. Servers and files are gone when it resolves or throws. */
export async function runImport(contestant: Contestant, task: ImportTask): Promise<ImportRun> {
  return contestant === 'dvcr' ? runDvcr(task) : runTools(contestant, task)
}

async function runDvcr({ url, warmUpUrl, check, signal }: ImportTask): Promise<ImportRun> {
  await using folder = await createTempFolder()
  await using server = await startDvcr({ data: join(folder.path, 'data') })
  const importArgs = (source: string, image: string) => {
    return ['import', source, image, '--server', server.url, '--json']
  }
  await execa(dvcrProgram, importArgs(warmUpUrl, 'bench/warm-up:1'))
  await writeBack(folder.path)
  let printed = ''
  const usage = await measure([server.pid], async (started) => {
    const command = execa(dvcrProgram, importArgs(url, `${name}:${tag}`), { cancelSignal: signal })
    started(command.pid)
    printed = (await command).stdout
  })
  const image = printedSchema.parse(JSON.parse(printed))
  await check({ registryUrl: server.url, name, tag })
  return { ...usage, scratchBytes: image.scratchBytes, storedBytes: image.storedSize }
}

async function runTools(
  style: 'plain' | 'tuned',
  { url, fileName, check, signal }: ImportTask,
): Promise<ImportRun> {
  await using folder = await createTempFolder()
  await using registry = await startDockerRegistry()
  const scratch = join(folder.path, 'scratch')
  await mkdir(scratch)
  await writeBack(folder.path)
  const usage = await measure([registry.pid], async (started) => {
    const args = [style, url, fileName, `${registry.host}/${name}:${tag}`]
    // A process group of its own: stopping the shell would not stop its pipelines.
    const command = execa(toolsScript, args, { cwd: scratch, detached: true })
    started(command.pid)
    const stop = () => {
      if (command.pid !== undefined) process.kill(-command.pid, 'SIGKILL')
    }
    signal.addEventListener('abort', stop)
    try {
      await command
    } finally {
      signal.removeEventListener('abort', stop)
    }
  })
  await check({ registryUrl: registry.url, name, tag })
  return {
    ...usage,
    scratchBytes: await allocatedBytes(scratch),
    storedBytes: await largestFile(join(scratch, 'oci/blobs/sha256')),
  }
}

/** What earlier runs left to be written must not slow down the next. */
async function writeBack(folder: string): Promise<void> {
  await execa('sync', ['-f', folder])
}

/** On disk: the holes of sparse files take nothing. */
async function allocatedBytes(folder: string): Promise<number> {
  const sizes = (await filesOf(folder)).map(async (path) => (await lstat(path)).blocks * 512)
  return (await Promise.all(sizes)).reduce((total, size) => total + size, 0)
}

async function largestFile(folder: string): Promise<number> {
  const sizes = (await filesOf(folder)).map(async (path) => (await lstat(path)).size)
  return Math.max(...(await Promise.all(sizes)))
}

async function filesOf(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
}
