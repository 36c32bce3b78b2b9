import { spawn } from 'node:child_process'
import koffi from 'koffi'
import { hasErrno } from '../core/errors.ts'

/** What a program may use at most; it dies of anything more. */
export interface ProgramLimits {
  readonly wallMs: number
  readonly cpuSeconds: number
  readonly memoryBytes: number
  /** Of standard output and standard error together. */
  readonly outputBytes: number
}

export interface ProgramEnd {
  /** Undefined where a signal ended it. */
  readonly exitCode: number | undefined
  /** How it was ended from outside: a limit, or the name of a signal. */
  readonly killedBy: string | undefined
  readonly output: string
  readonly errorOutput: string
}

/** Where programs are looked for: never where a variable of the server's says. */
const systemPath = '/usr/local/bin:/usr/bin:/bin'

/**
 * Limits by the shell, which every system has. Each may be lower already. Network: an empty
 * namespace, as root or where users may make their own.
 */
const script = `
cpu=$1 kib=$2; shift 2
ulimit -c 0; ulimit -f 0; ulimit -t "$cpu"; ulimit -v "$kib"
for how in -n -Un; do
  unshare $how true 2>/dev/null && exec unshare $how "$@"
done
exec "$@"
`

/**
 * Runs a program of the system that reads what a stranger wrote: without network where the system
 * allows that, without environment, with `stdin` (a file descriptor) as its only file, no file
 * written, within `limits`. Its end is answered however it came; 127: there is no such program.
 * Rejects where no process could be started, and with its reason when `signal` is aborted.
 */
export async function runConfined(
  command: readonly string[],
  { stdin, limits, signal }: RunOptions,
): Promise<ProgramEnd> {
  signal.throwIfAborted()
  const { wallMs, cpuSeconds, memoryBytes, outputBytes } = limits
  keepFilesFromChildren()
  const numbers = [String(cpuSeconds), String(Math.floor(memoryBytes / 1024))]
  const child = spawn('/bin/sh', ['-c', script, 'sh', ...numbers, ...command], {
    cwd: '/',
    env: { PATH: systemPath, LC_ALL: 'C' },
    stdio: [stdin, 'pipe', 'pipe'],
    // A group of its own: what it has started ends with it.
    detached: true,
  })
  const { stdout, stderr } = child
  if (!stdout || !stderr) throw new Error('a started program has no output')
  let killedBy: string | undefined
  const kill = (why: string): void => {
    killedBy ??= why
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
    } catch (error) {
      // It has ended meanwhile.
      if (!hasErrno(error, 'ESRCH')) throw error
    }
  }
  const onAbort = (): void => kill('abort')
  signal.addEventListener('abort', onAbort, { once: true })
  const timer = setTimeout(kill, wallMs, `it ran longer than ${wallMs / 1000} s`)
  let size = 0
  async function read(stream: AsyncIterable<Buffer>): Promise<string> {
    const chunks: Buffer[] = []
    for await (const chunk of stream) {
      size += chunk.length
      if (size > outputBytes) kill(`it wrote more than ${outputBytes} bytes`)
      else chunks.push(chunk)
    }
    return Buffer.concat(chunks).toString()
  }
  const ended = Promise.withResolvers<{ exitCode: number | null; name: string | null }>()
  child.once('error', ended.reject)
  child.once('close', (exitCode, name) => ended.resolve({ exitCode, name }))
  try {
    const [{ exitCode, name }, output, errorOutput] = await Promise.all([
      ended.promise,
      read(stdout),
      read(stderr),
    ])
    signal.throwIfAborted()
    killedBy ??= name ?? undefined
    return { exitCode: exitCode ?? undefined, killedBy, output, errorOutput }
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', onAbort)
  }
}

let syscall: ((number: number, first: number, last: number, flags: number) => number) | undefined
const closeRange = 436
const closeOnExec = 4

/**
 * Node opens all files so that children do not get them; what whoever started this process has left
 * open is told here to be the same. Linux before 5.11 cannot do it and answers that.
 */
function keepFilesFromChildren(): void {
  syscall ??= koffi
    .load(null)
    .func('int64_t syscall(int64_t number, uint32_t first, uint32_t last, uint32_t flags)')
  syscall(closeRange, 3, 0xff_ff_ff_ff, closeOnExec)
}

export interface RunOptions {
  readonly stdin: number | 'ignore'
  readonly limits: ProgramLimits
  readonly signal: AbortSignal
}
