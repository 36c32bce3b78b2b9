import { once } from 'node:events'
import { spawn } from 'node:child_process'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { createTempFolder } from '../test/fixtures/temp-folder.ts'
import { acquireLock } from './lock.ts'

/** Takes the lock, says what came of it, and keeps it until it is killed. */
const program = `
  const { acquireLock } = await import(${JSON.stringify(new URL('lock.ts', import.meta.url).href)})
  try {
    await acquireLock(process.argv[1])
    process.stdout.write('owner\\n')
  } catch (error) {
    process.stdout.write(error.code + '\\n')
  }
  setInterval(() => {}, 1000)
`

async function startProcess(folder: string) {
  const child = spawn(process.execPath, ['--input-type=module', '-e', program, folder], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [answer] = await once(child.stdout.setEncoding('utf8'), 'data')
  return {
    pid: child.pid,
    answer: String(answer).trim(),
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
    await expect(acquireLock(folder.path)).rejects.toMatchObject({
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
      await using lock = await acquireLock(folder.path)
      expect(lock).toBeDefined()
      await expect(acquireLock(folder.path)).rejects.toMatchObject({ code: 'STORE_LOCKED' })
    }
    expect((await readdir(folder.path)).length).toBeLessThan(3)
  })

  it('knows a dead owner although another process has its pid now', async () => {
    await using folder = await createTempFolder()
    await (await acquireLock(folder.path))[Symbol.asyncDispose]()
    const dead = { pid: process.pid, host: hostname(), startTicks: '1', bootId: 'another' }
    await writeFile(join(folder.path, '7.json'), JSON.stringify(dead))
    await using lock = await acquireLock(folder.path)
    expect(lock).toBeDefined()
  })

  it('does not take what a process of another host has', async () => {
    await using folder = await createTempFolder()
    const path = join(folder.path, 'lock')
    await mkdir(path)
    await writeFile(join(path, '1.json'), JSON.stringify({ pid: 1, host: 'elsewhere' }))
    await expect(acquireLock(path)).rejects.toMatchObject({
      code: 'STORE_LOCKED',
      detail: { pid: 1, host: 'elsewhere' },
    })
  })

  it('has one winner among processes that find the same dead owner', async () => {
    await using folder = await createTempFolder()
    const dead = { pid: process.pid, host: hostname(), startTicks: '1' }
    await writeFile(join(folder.path, '3.json'), JSON.stringify(dead))
    const started = await Promise.all(Array.from({ length: 5 }, () => startProcess(folder.path)))
    const answers = started.map(({ answer }) => answer).sort()
    for (const child of started) await child[Symbol.asyncDispose]()
    expect(answers).toEqual([...Array<string>(4).fill('STORE_LOCKED'), 'owner'])
  })

  it('has one winner among callers in one process', async () => {
    await using folder = await createTempFolder()
    const tries = Array.from({ length: 20 }, () => acquireLock(folder.path))
    const outcomes = await Promise.allSettled(tries)
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
  })
})
