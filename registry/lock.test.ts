import { once } from 'node:events'
import { spawn } from 'node:child_process'
import { readdir, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { createTempFolder } from '../test/fixtures/temp-folder.ts'
import { acquireLock } from './lock.ts'

/**
 * Takes the lock, says what came of it, and keeps it until it is killed. Says so where it loses it,
 * and, for every line it is sent, whether it still is the owner.
 */
const program = `
  const { acquireLock } = await import(${JSON.stringify(new URL('lock.ts', import.meta.url).href)})
  const say = (line) => process.stdout.write(line + '\\n')
  const [, folder, options] = process.argv
  try {
    const lock = await acquireLock(folder, { onLost: () => say('lost'), ...JSON.parse(options) })
    say('owner')
    process.stdin.on('data', () => lock.confirm().then(() => say('yes'), (error) => say(error.code)))
  } catch (error) {
    say(error.code)
  }
  setInterval(() => {}, 1000)
`

const fast = { beatMs: 50, silenceMs: 2000 }
const onLost = (): void => {}

/** As processes in containers of one machine appear to each other. */
const besideOf = (name: string) => ({
  ...fast,
  self: { pid: 1, host: name, startTicks: '1', bootId: 'one for all', pidNamespace: name },
})

async function startProcess(folder: string, options: object = {}) {
  const args = ['--input-type=module', '-e', program, folder, JSON.stringify(options)]
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const said = async (): Promise<string> => String((await lines.next()).value)
  return {
    pid: child.pid,
    answer: await said(),
    said,
    signal: (name: NodeJS.Signals) => child.kill(name),
    async isOwner(): Promise<string> {
      child.stdin.write('?')
      return said()
    },
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL')
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    },
  }
}

describe('acquireLock', () => {
  it('refuses a second process, naming the pid and host of the first', async () => {
    await using folder = await createTempFolder()
    await using first = await startProcess(folder.path)
    expect(first.answer).toBe('owner')
    await expect(acquireLock(folder.path, { onLost })).rejects.toMatchObject({
      code: 'STORE_LOCKED',
      detail: { pid: first.pid, host: hostname() },
    })
  })

  it('succeeds a process that was killed', async () => {
    await using folder = await createTempFolder()
    const first = await startProcess(folder.path)
    await first[Symbol.asyncDispose]()
    await using second = await startProcess(folder.path)
    expect([first.answer, second.answer]).toEqual(['owner', 'owner'])
  })

  it('lets the next one in after it is disposed', async () => {
    await using folder = await createTempFolder()
    for (let round = 0; round < 5; round++) {
      await using lock = await acquireLock(folder.path, { onLost })
      expect(lock).toBeDefined()
      await expect(acquireLock(folder.path, { onLost })).rejects.toMatchObject({
        code: 'STORE_LOCKED',
      })
    }
    expect((await readdir(folder.path)).length).toBeLessThan(3)
  })

  it('knows a dead owner although another process has its pid now', async () => {
    await using folder = await createTempFolder()
    await (await acquireLock(folder.path, { onLost }))[Symbol.asyncDispose]()
    const dead = { pid: process.pid, host: hostname(), startTicks: '1', bootId: 'another' }
    await writeFile(join(folder.path, '7.json'), JSON.stringify(dead))
    await using lock = await acquireLock(folder.path, { onLost })
    expect(lock).toBeDefined()
  })

  it('does not take what a process of another host has that says nothing by its version', async () => {
    await using folder = await createTempFolder()
    await writeFile(join(folder.path, '1.json'), JSON.stringify({ pid: 1, host: 'elsewhere' }))
    const taking = acquireLock(folder.path, { ...fast, onLost })
    await expect(taking).rejects.toMatchObject({
      code: 'STORE_LOCKED',
      detail: { pid: 1, host: 'elsewhere' },
    })
  })

  it('knows that nobody outlives a restart of the machine whose own disk it is', async () => {
    await using folder = await createTempFolder()
    const before = { pid: process.pid, host: hostname(), startTicks: '1', bootId: 'another' }
    await writeFile(join(folder.path, '7.json'), JSON.stringify({ ...before, beatMs: 5000 }))
    await using lock = await acquireLock(folder.path, { onLost })
    expect(await lock.confirm()).toBeUndefined()
  })

  it('listens to a process that it cannot look at, and leaves it alone while it lives', async () => {
    await using folder = await createTempFolder()
    await using first = await startProcess(folder.path, besideOf('one'))
    expect(first.answer).toBe('owner')
    for (const name of ['two', 'three']) {
      await using second = await startProcess(folder.path, besideOf(name))
      expect(second.answer).toBe('STORE_LOCKED')
    }
    expect(await first.isOwner()).toBe('yes')
  })

  it('succeeds a process that it cannot look at and that has fallen silent', async () => {
    await using folder = await createTempFolder()
    const first = await startProcess(folder.path, besideOf('one'))
    await first[Symbol.asyncDispose]()
    await using second = await startProcess(folder.path, besideOf('two'))
    expect(second.answer).toBe('owner')
    await using third = await startProcess(folder.path, besideOf('three'))
    expect(third.answer).toBe('STORE_LOCKED')
  })

  it('has one winner among those that listen', async () => {
    await using folder = await createTempFolder()
    const first = await startProcess(folder.path, besideOf('one'))
    await first[Symbol.asyncDispose]()
    const names = ['two', 'three', 'four', 'five']
    const started = await Promise.all(
      names.map((name) => startProcess(folder.path, besideOf(name))),
    )
    const answers = started.map(({ answer }) => answer).sort()
    for (const child of started) await child[Symbol.asyncDispose]()
    expect(answers).toEqual(['STORE_LOCKED', 'STORE_LOCKED', 'STORE_LOCKED', 'owner'])
  })

  it('is told to an owner that slept through being succeeded as soon as it wakes', async () => {
    await using folder = await createTempFolder()
    await using first = await startProcess(folder.path, besideOf('one'))
    first.signal('SIGSTOP')
    await using second = await startProcess(folder.path, besideOf('two'))
    expect(second.answer).toBe('owner')
    first.signal('SIGCONT')
    expect(await first.said()).toBe('lost')
    expect(await first.isOwner()).toBe('STORE_LOCKED')
    expect(await second.isOwner()).toBe('yes')
  })

  it('goes on with an owner that slept for less', async () => {
    await using folder = await createTempFolder()
    await using first = await startProcess(folder.path, besideOf('one'))
    first.signal('SIGSTOP')
    const starting = startProcess(folder.path, { ...besideOf('two'), silenceMs: 60_000 })
    await sleep(1000)
    first.signal('SIGCONT')
    await using second = await starting
    expect(second.answer).toBe('STORE_LOCKED')
    expect(await first.isOwner()).toBe('yes')
  })

  it('has one winner among processes that find the same dead owner', async () => {
    await using folder = await createTempFolder()
    const dead = { pid: process.pid, host: hostname(), startTicks: '1', bootId: 'another' }
    await writeFile(join(folder.path, '3.json'), JSON.stringify(dead))
    const started = await Promise.all(Array.from({ length: 5 }, () => startProcess(folder.path)))
    const answers = started.map(({ answer }) => answer).sort()
    for (const child of started) await child[Symbol.asyncDispose]()
    expect(answers).toEqual([...Array<string>(4).fill('STORE_LOCKED'), 'owner'])
  })

  it('has one winner among callers in one process', async () => {
    await using folder = await createTempFolder()
    const tries = Array.from({ length: 20 }, () => acquireLock(folder.path, { onLost }))
    const outcomes = await Promise.allSettled(tries)
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
  })
})
