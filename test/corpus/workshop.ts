import { execa } from 'execa'
import { randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { createSeededRandom } from '../e2e/seeded-random.ts'

export const mib = 1024 * 1024

/** Where the files of the corpus are made. */
export interface Workshop extends AsyncDisposable {
  /** The disk that is in most of them, 4 MiB: data, holes, and data in its last sector. */
  readonly disk: Buffer
  /** A file of this machine that many of them name. Nobody but its owner may read it. */
  readonly canary: { readonly path: string; readonly token: string }
  /** The disk as qemu-img writes it; bytes of the caller's own. */
  convert(format: string, ...options: readonly string[]): Promise<Buffer>
  /** An empty disk that qemu-img makes. */
  create(format: string, size: string, ...options: readonly string[]): Promise<Buffer>
  /** What a shell command makes of `input`, as `$1` into `$2`. */
  run(command: string, input: Uint8Array): Promise<Buffer>
}

export async function openWorkshop(): Promise<Workshop> {
  const folder = await createTempFolder()
  const disk = makeDisk()
  const token = randomBytes(16).toString('hex')
  const canary = { path: join(folder.path, 'host-file'), token }
  await writeFile(canary.path, `${token}\n`.repeat((4 * mib) / (token.length + 1)), { mode: 0o600 })
  await writeFile(join(folder.path, 'disk.raw'), disk)
  const made = new Map<string, Promise<Buffer>>()
  let count = 0

  async function run(command: string, input: Uint8Array): Promise<Buffer> {
    const [from, to] = ['in', 'out'].map((name) => join(folder.path, `${name}-${count}`))
    count++
    await writeFile(from ?? '', input)
    await execa('sh', ['-euc', command, 'sh', from ?? '', to ?? ''], { stdin: 'ignore' })
    return readFile(to ?? '')
  }

  /** Once for all that change a copy of it. */
  async function copyOf(command: string, input: Uint8Array): Promise<Buffer> {
    const known = made.get(command) ?? run(command, input)
    made.set(command, known)
    return Buffer.from(await known)
  }

  return {
    disk,
    canary,
    convert: (format, ...options) =>
      copyOf(`qemu-img convert -f raw -O ${format} ${options.join(' ')} "$1" "$2"`, disk),
    create: (format, size, ...options) =>
      copyOf(`qemu-img create -q -f ${format} ${options.join(' ')} "$2" ${size}`, Buffer.alloc(0)),
    run,
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  }
}

function makeDisk(): Buffer {
  const disk = Buffer.alloc(4 * mib)
  const random = createSeededRandom(1)
  const noise = (start: number, end: number): void => {
    for (let at = start; at < end; at++) disk[at] = random() * 256
  }
  disk.fill('a line of text on the disk\n', 4096, 200_000)
  noise(mib + 8192, mib + 150_000)
  disk.fill('more text', 2 * mib, 2 * mib + 70_000)
  noise(4 * mib - 1000, 4 * mib)
  return disk
}

/** The same bytes with numbers of it changed. */
export function patched(bytes: Buffer, change: (bytes: Buffer) => void): Buffer {
  change(bytes)
  return bytes
}
