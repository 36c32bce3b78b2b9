import { execa } from 'execa'
import { open, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { diskImage } from '../fixtures/images.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { measure, type Usage } from './process-usage.ts'

/** A way to decode. */
export interface Engine {
  readonly name: string
  /** `dvcr`: as imports do; `node`: node:zlib alone; else a command, read through a pipe. */
  readonly way: 'dvcr' | 'node' | readonly [string, ...string[]]
}

/** A kind of compressed file. */
export interface DecodeInput {
  /** The file's ending, for the option and the table. */
  readonly name: string
  /** A shell command that makes it from `$1`, to its output. */
  readonly recipe: string
  readonly engines: readonly Engine[]
}

const dvcr = (how: string): Engine => ({ name: `dvcr: ${how}`, way: 'dvcr' })
const node: Engine = { name: 'node:zlib alone', way: 'node' }
const command = (...way: readonly [string, ...string[]]): Engine => ({
  name: `\`${way.join(' ')}\``,
  way,
})
const zlib = dvcr('node:zlib')
const lanes = dvcr('node:zlib, frames side by side')
const liblzma = dvcr('liblzma on a thread')
const gzips = [command('gzip', '-dc'), command('pigz', '-dc'), command('igzip', '-dc')]
const multiBlock = 'xz -1 -T0 --block-size=16MiB -c'

/** The first engine of each is ours. */
export const decodeInputs: readonly DecodeInput[] = [
  { name: 'gz', recipe: 'gzip -6 -n -c "$1"', engines: [zlib, node, ...gzips] },
  { name: 'zst', recipe: 'zstd -q -3 -c "$1"', engines: [zlib, node, command('zstd', '-dcq')] },
  {
    name: 'multi-frame.zst',
    recipe: 'pzstd -q -3 -p 2 -c "$1"',
    engines: [lanes, node, command('zstd', '-dcq'), command('pzstd', '-dcq', '-p', '2')],
  },
  { name: 'xz', recipe: 'xz -1 -T1 -c "$1"', engines: [liblzma, command('xz', '-dc', '-T1')] },
  {
    name: 'multi-block.xz',
    recipe: `${multiBlock} "$1"`,
    engines: [
      dvcr('liblzma, blocks side by side'),
      command('xz', '-dc', '-T0'),
      command('xz', '-dc', '-T1'),
    ],
  },
  {
    name: 'bz2',
    recipe: 'bzip2 -1 -c "$1"',
    engines: [dvcr('libbz2 on a thread'), command('bzip2', '-dc'), command('lbzip2', '-dc')],
  },
  {
    name: 'lz4',
    recipe: 'lz4 -1 -q -c "$1"',
    engines: [dvcr('liblz4 on a thread'), command('lz4', '-dcq')],
  },
]

export interface DecodeResult {
  readonly input: DecodeInput
  /** Bytes. */
  readonly packed: number
  /** By engine, one of each round; empty where its program is not installed. */
  readonly runs: readonly { readonly engine: Engine; readonly rounds: readonly Usage[] }[]
}

export interface DecodeBenchOptions {
  readonly inputs: readonly DecodeInput[]
  readonly rounds: number
  /** Bytes of a disk's data to decode. */
  readonly size: number
  readonly signal: AbortSignal
  /** Lines for people who wait. */
  readonly log: (line: string) => void
}

/**
 * Decodes every input by every engine in turn, each in a process of its own that counts the bytes.
 * Throws where one fails or finds another number of them.
 */
export async function* benchDecoders(options: DecodeBenchOptions): AsyncGenerator<DecodeResult> {
  await using folder = await createTempFolder()
  const raw = join(folder.path, 'raw')
  await writeData(raw, options.size)
  for (const input of options.inputs) {
    const path = join(folder.path, `raw.${input.name}`)
    const make = `${input.recipe} >"$2"`
    await execa('sh', ['-euc', make, 'sh', raw, path], { cancelSignal: options.signal })
    const runs = input.engines.map((engine) => ({ engine, rounds: [] as Usage[] }))
    for (let round = 1; round <= options.rounds; round++) {
      for (const { engine, rounds } of runs) {
        options.signal.throwIfAborted()
        if (!(await isInstalled(engine))) continue
        const usage = await decode(engine, path, options)
        rounds.push(usage)
        options.log(
          `${input.name}, round ${round}, ${engine.name}: ${(usage.wallMs / 1000).toFixed(2)} s`,
        )
      }
    }
    yield { input, packed: (await stat(path)).size, runs }
  }
}

async function decode(
  { way }: Engine,
  path: string,
  { size, signal }: DecodeBenchOptions,
): Promise<Usage> {
  const script = join(import.meta.dirname, 'decode-process.ts')
  const args = typeof way === 'string' ? [way, path] : ['command', path, ...way]
  return measure([], async (started) => {
    const running = execa(process.execPath, [script, ...args], { cancelSignal: signal })
    started(running.pid)
    const { stdout } = await running
    if (Number(stdout) !== size) throw new Error(`${args.join(' ')} gave ${stdout} bytes`)
  })
}

async function isInstalled({ way }: Engine): Promise<boolean> {
  if (typeof way === 'string') return true
  const { exitCode } = await execa('sh', ['-c', 'command -v "$1"', 'sh', way[0]], { reject: false })
  return exitCode === 0
}

/** What is not zero of a real disk, over and over: holes would be decoded at another speed. */
async function writeData(path: string, size: number): Promise<void> {
  const pieceBytes = 1024 * 1024
  const zeros = Buffer.alloc(pieceBytes)
  const piece = Buffer.alloc(pieceBytes)
  await using disk = await open(await diskImage('debian', 'raw'))
  await using file = await open(path, 'w')
  const { size: diskBytes } = await disk.stat()
  for (let at = 0, written = 0; written < size; at = (at + pieceBytes) % diskBytes) {
    const { bytesRead } = await disk.read(piece, 0, pieceBytes, at)
    const part = piece.subarray(0, Math.min(bytesRead, size - written))
    if (part.equals(zeros.subarray(0, part.length))) continue
    await file.write(part)
    written += part.length
  }
}
