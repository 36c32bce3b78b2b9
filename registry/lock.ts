import { randomUUID } from 'node:crypto'
import { link, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import { CodedError, hasErrno } from '../core/errors.ts'
import { decodeJson, encodeJson } from './records.ts'

const owner = z.object({
  pid: z.int(),
  host: z.string(),
  /** Clock ticks from boot to the start of the process: another one with its pid has other ticks. */
  startTicks: z.string().optional(),
  bootId: z.string().optional(),
  released: z.boolean().optional(),
})
type Owner = z.output<typeof owner>

/**
 * Makes this process the only owner of `folder`'s parent until disposed. Throws STORE_LOCKED with
 * the pid and host of the owner; an owner of this host that is dead is succeeded at once.
 *
 * The folder holds one file per generation; the highest names the owner. Only one process can
 * create a generation, and none is reused, so two that find the same dead owner cannot both win.
 */
export async function acquireLock(folder: string): Promise<AsyncDisposable> {
  await mkdir(folder, { recursive: true })
  const self = await describeSelf()
  for (;;) {
    const [newest = 0] = await generations(folder)
    const current = newest > 0 ? await readOwner(folder, newest) : undefined
    if (current && (await isAlive(current, self))) throw locked(folder, newest, current)
    const mine = newest + 1
    if (!(await claim(folder, mine, self))) continue
    const [highest = 0, ...older] = await generations(folder)
    if (highest !== mine) {
      // Someone went further while this process slept between reading and claiming.
      await rm(fileOf(folder, mine), { force: true })
      continue
    }
    // The one before stays, so that a listing under way never sees an empty folder.
    for (const old of older.slice(1)) await rm(fileOf(folder, old), { force: true })
    return { [Symbol.asyncDispose]: () => replace(folder, mine, { ...self, released: true }) }
  }
}

function locked(folder: string, generation: number, { pid, host }: Owner): CodedError {
  return new CodedError(
    'STORE_LOCKED',
    `the data folder is in use by process ${pid} on host ${host}; stop that one first, or remove ${fileOf(folder, generation)} if that host is gone`,
    { detail: { pid, host } },
  )
}

const fileOf = (folder: string, generation: number): string => join(folder, `${generation}.json`)

/** Highest first. */
async function generations(folder: string): Promise<number[]> {
  const names = await readdir(folder)
  return names
    .filter((name) => /^\d+\.json$/.test(name))
    .map((name) => Number.parseInt(name, 10))
    .sort((a, b) => b - a)
}

/** `undefined` where a successor has removed it already. */
async function readOwner(folder: string, generation: number): Promise<Owner | undefined> {
  const path = fileOf(folder, generation)
  try {
    return decodeJson(owner, await readFile(path), path)
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined
    throw error
  }
}

/** False where the generation exists. */
async function claim(folder: string, generation: number, self: Owner): Promise<boolean> {
  const scratch = join(folder, `${randomUUID()}.tmp`)
  try {
    // Linked when complete: nobody ever reads half an owner.
    await writeFile(scratch, encodeJson(self), { flush: true })
    await link(scratch, fileOf(folder, generation))
    return true
  } catch (error) {
    if (hasErrno(error, 'EEXIST')) return false
    throw error
  } finally {
    await rm(scratch, { force: true })
  }
}

async function replace(folder: string, generation: number, value: Owner): Promise<void> {
  const scratch = join(folder, `${randomUUID()}.tmp`)
  await writeFile(scratch, encodeJson(value), { flush: true })
  await rename(scratch, fileOf(folder, generation))
}

async function describeSelf(): Promise<Owner> {
  const [startTicks, bootId] = [await startTicksOf(process.pid), await readBootId()]
  return { pid: process.pid, host: hostname(), startTicks, bootId }
}

async function isAlive(current: Owner, self: Owner): Promise<boolean> {
  if (current.released === true) return false
  // A process of another host cannot be looked at; it counts as alive.
  if (current.host !== self.host) return true
  if (current.bootId !== self.bootId || !processExists(current.pid)) return false
  return current.startTicks === (await startTicksOf(current.pid))
}

function processExists(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // EPERM: it exists and belongs to someone else.
    return hasErrno(error, 'EPERM')
  }
}

/** Field 22 of /proc/<pid>/stat; `undefined` for a dead process and where there is no /proc. */
async function startTicksOf(pid: number): Promise<string | undefined> {
  const stat = await readOptional(`/proc/${pid}/stat`)
  // The second field is the program's name in brackets and may hold anything.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ')
  // Killed, and its parent has not asked for its exit code yet.
  const isDead = fields?.[0] === 'Z' || fields?.[0] === 'X'
  return isDead ? undefined : fields?.[19]
}

async function readBootId(): Promise<string | undefined> {
  return (await readOptional('/proc/sys/kernel/random/boot_id'))?.trim()
}

async function readOptional(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (hasErrno(error, 'ENOENT') || hasErrno(error, 'ESRCH')) return undefined
    throw error
  }
}
