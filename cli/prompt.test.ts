import { PassThrough } from 'node:stream'
import { text } from 'node:stream/consumers'
import { expect, test } from 'vitest'
import { refusalIn } from '../test/fixtures/refusal.ts'
import { ask, readSecret } from './prompt.ts'

const { signal } = new AbortController()

/** A terminal on which `typed` is typed; `isTTY: false`: a pipe. */
function terminalWith(typed: string, { isTTY = true } = {}) {
  const stdin = Object.assign(new PassThrough(), { isTTY })
  const stderr = new PassThrough()
  const terminal = { env: {}, stdin, stdout: new PassThrough(), stderr }
  stdin.end(typed)
  return {
    terminal,
    shown: () => {
      stderr.end()
      return text(stderr)
    },
  }
}

test('an answer is read, and shown while it is typed', async () => {
  const { terminal, shown } = terminalWith('alice\r')
  expect(await ask(terminal, 'Username: ', { signal })).toBe('alice')
  expect(await shown()).toMatch(/Username: .*alice/)
})

test('a hidden answer is read and not shown', async () => {
  const { terminal, shown } = terminalWith('secret-1\r')
  expect(await ask(terminal, 'Password: ', { hidden: true, signal })).toBe('secret-1')
  expect(await shown()).toBe('Password: \n')
})

test('nobody is asked who is not there', async () => {
  const pipe = terminalWith('alice\n', { isTTY: false })
  expect(await refusalIn(ask(pipe.terminal, 'Username: ', { signal }))).toBe('SETTING_INVALID')
  const gone = terminalWith('')
  expect(await refusalIn(ask(gone.terminal, 'Username: ', { signal }))).toBe('SETTING_INVALID')
})

test('a secret on standard input ends before the end of its line', async () => {
  for (const typed of ['secret', 'secret\n', 'secret\r\n']) {
    expect(await readSecret(terminalWith(typed).terminal)).toBe('secret')
  }
  expect(await readSecret(terminalWith('two\nlines\n\n').terminal)).toBe('two\nlines\n')
})
