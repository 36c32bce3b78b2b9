import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** For tests: qemu-img as the second opinion. Rejects where it fails; resolves to its output. */
export async function qemuImg(...args: string[]): Promise<string> {
  const { stdout } = await run('qemu-img', args)
  return stdout
}

/** For tests: runs commands of qemu-io on a qcow2. */
export async function qemuIo(path: string, ...commands: string[]): Promise<void> {
  await run('qemu-io', ['-f', 'qcow2', ...commands.flatMap((command) => ['-c', command]), path])
}

/** For tests: the virtual size that qemu-img finds in a file of that format (QEMU's name). */
export async function qemuVirtualSize(path: string, format: string): Promise<number> {
  const info: unknown = JSON.parse(await qemuImg('info', '-f', format, '--output=json', path))
  if (typeof info === 'object' && info !== null && 'virtual-size' in info) {
    return Number(info['virtual-size'])
  }
  throw new Error(`qemu-img info told no size of ${path}`)
}

/** For tests: a folder that is gone after the scope. */
export async function scratchFolder(): Promise<AsyncDisposable & { file(name: string): string }> {
  const folder = await mkdtemp(join(tmpdir(), 'dvcr-converter-'))
  return {
    file: (name) => join(folder, name),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  }
}
