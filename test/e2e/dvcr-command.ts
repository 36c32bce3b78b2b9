import { execa } from 'execa'
import { join } from 'node:path'

/** The program from the clone, as its users run it. */
export const dvcrProgram = join(import.meta.dirname, '../../bin/dvcr')

export interface Outcome {
  readonly exitCode: number | undefined
  readonly stdout: string
  readonly stderr: string
}

/** Runs `dvcr` to its end, whatever that is; `input`: its standard input. */
export async function dvcr(
  args: readonly string[],
  { input = new Uint8Array() }: { readonly input?: Uint8Array } = {},
): Promise<Outcome> {
  const { exitCode, stdout, stderr } = await execa(dvcrProgram, args, { reject: false, input })
  return { exitCode, stdout, stderr }
}
