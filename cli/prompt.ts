import { createInterface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { CodedError } from '../core/errors.ts'
import type { Terminal } from './terminal.ts'

/**
 * Asks on the terminal; what is typed as an answer to a `hidden` question is not shown. Throws
 * SETTING_INVALID where there is no terminal to ask on.
 */
export async function ask(
  { stdin, stderr }: Terminal,
  question: string,
  { hidden = false, signal }: { readonly hidden?: boolean; readonly signal: AbortSignal },
): Promise<string> {
  if (stdin.isTTY !== true) {
    throw new CodedError(
      'SETTING_INVALID',
      'there is no terminal to ask on; give --username and --password-stdin',
    )
  }
  // The line editor repeats what is typed to its output.
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() })
  const lines = createInterface({ input: stdin, output: hidden ? nowhere : stderr, terminal: true })
  // It takes Ctrl-C from the terminal; that means the command, as always.
  lines.once('SIGINT', () => process.kill(process.pid, 'SIGINT'))
  const ended = new Promise<never>((_resolve, reject) => {
    lines.once('close', () => reject(new CodedError('SETTING_INVALID', 'there was no answer')))
  })
  if (hidden) stderr.write(question)
  try {
    return await Promise.race([lines.question(question, { signal }), ended])
  } finally {
    lines.close()
    if (hidden) stderr.write('\n')
  }
}

/** A secret given on standard input, without the end of its line. */
export async function readSecret({ stdin }: Terminal): Promise<string> {
  return (await text(stdin)).replace(/\r?\n$/, '')
}
