import { execa } from 'execa'
import { join } from 'node:path'

/** The program from the clone, as its users run it. */
const dvcrProgram = join(import.meta.dirname, '../../bin/dvcr')

export interface Outcome {
  readonly exitCode: number | undefined
  readonly stdout: string
  readonly stderr: string
}

/** Runs `dvcr` to its end, whatever that is; `input`: its standard input. */
export async function dvcr(
  args: readonly string[],
  {
    input = new Uint8Array(),
    env = {},
  }: { readonly input?: Uint8Array; readonly env?: Readonly<Record<string, string>> } = {},
): Promise<Outcome> {
  const options = { reject: false, input, env } as const
  const { exitCode, stdout, stderr } = await execa(dvcrProgram, args, options)
  return { exitCode, stdout, stderr }
}

/** `dvcr` at work, to be stopped by a signal. */
export interface RunningCommand {
  kill(signal: NodeJS.Signals): void
  /** Once it has ended; `exitCode` is undefined where the signal ended it. */
  readonly ended: Promise<Outcome>
}

/** Starts `dvcr`; `input` is given to it and its standard input then kept open. */
export function startCommand(
  args: readonly string[],
  {
    input,
    env = {},
  }: { readonly input?: Uint8Array; readonly env?: Readonly<Record<string, string>> } = {},
): RunningCommand {
  const child = execa(dvcrProgram, args, { reject: false, cleanup: true, stdin: 'pipe', env })
  if (input) child.stdin.write(input)
  // Writing to a command that was killed fails; what is tested is what it leaves.
  child.stdin.on('error', () => {})
  return {
    kill: (signal) => void child.kill(signal),
    ended: child.then(({ exitCode, stdout, stderr }) => ({ exitCode, stdout, stderr })),
  }
}

/** Runs `dvcr` into a reader that closes the pipe at once. */
export async function dvcrUnread(args: readonly string[]): Promise<Omit<Outcome, 'stdout'>> {
  const child = execa(dvcrProgram, args, { reject: false, buffer: { stdout: false } })
  child.stdout.destroy()
  const { exitCode, stderr } = await child
  return { exitCode, stderr }
}
