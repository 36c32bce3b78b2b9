import { randomUUID } from 'node:crypto'
import { link, mkdir, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { CodedError, hasErrno } from '../core/errors.ts'
import { describeSelf, judgeOwner, lockOwner, type LockOwner } from './lock-owner.ts'
import { decodeJson, encodeJson } from './records.ts'

export interface LockOptions {
  /** Called once where another process has taken over: nothing may be acknowledged any more. */
  readonly onLost: (error: CodedError) => void
  /** The owner says so often that it lives; five seconds unless said. */
  readonly beatMs?: number
  /** An owner out of sight that says nothing for so long is succeeded; 30 seconds unless said. */
  readonly silenceMs?: number
  /** Called where it takes up to `silenceMs` to know whether that owner lives. */
  readonly onListen?: (owner: LockOwner) => void
  /** Who this process says it is; itself but for tests. */
  readonly self?: LockOwner
}

export interface Lock extends AsyncDisposable {
  /**
   * Resolves where this process is still the owner. Cheap; looks at the folder only after a pause
   * in which another one may have taken over. Throws STORE_LOCKED.
   */
  confirm(): Promise<void>
}

/**
 * Makes this process the only owner of `folder`'s parent until disposed. Throws STORE_LOCKED with
 * the pid and host of the owner. An owner that is provably dead is succeeded at once; one that
 * cannot be looked at (another machine, another container) is listened to first.
 *
 * The folder holds one file per generation; the highest names the owner. Only one process can
 * create a generation, and none is reused, so two that find the same dead owner cannot both win.
 */
export async function acquireLock(folder: string, options: LockOptions): Promise<Lock> {
  const { beatMs = 5000, silenceMs = 30_000, onListen = () => {} } = options
  await mkdir(folder, { recursive: true })
  const self = { ...(options.self ?? (await describeSelf())), beatMs }
  for (;;) {
    const [newest = 0] = await generations(folder)
    const current = newest > 0 ? await readOwner(folder, newest) : undefined
    if (current && !(await isGone(folder, newest, { current, self, silenceMs, onListen }))) {
      throw locked(folder, newest, current)
    }
    const mine = newest + 1
    if (!(await claim(folder, mine, self))) continue
    const [highest = 0, ...older] = await generations(folder)
    if (highest !== mine) {
      // Someone went further while this process slept between reading and claiming.
      await rm(fileOf(folder, mine), { force: true })
      continue
    }
    // The one before stays, so that a listing under way never sees an empty folder.
    for (const old of older.slice(1)) {
      await rm(fileOf(folder, old), { force: true })
      await rm(beatOf(folder, old), { force: true })
    }
    return keep(folder, mine, { ...options, beatMs, silenceMs, self, onListen })
  }
}

/** Says that the owner lives, and notices when it no longer is the owner. */
async function keep(
  folder: string,
  mine: number,
  { onLost, beatMs, silenceMs, self }: Required<LockOptions>,
): Promise<Lock> {
  let beats = 0
  let lost: CodedError | undefined
  let told = false
  let confirmed = clocks()

  async function beat(): Promise<void> {
    if (lost) throw lost
    const at = clocks()
    const [highest = 0] = await generations(folder)
    if (highest > mine) {
      lost ??= takenOver(await readOwner(folder, highest))
      throw lost
    }
    // Closed each time: only then do other machines see it on a network file system.
    await using file = await open(beatOf(folder, mine), beats === 0 ? 'w' : 'r+')
    await file.write(String(++beats).padStart(16), 0)
    confirmed = at
  }

  async function check(): Promise<void> {
    try {
      await beat()
    } finally {
      if (lost && !told) {
        told = true
        clearInterval(timer)
        onLost(lost)
      }
    }
  }

  await beat()
  // Storage that fails is told by the next `confirm`.
  const timer = setInterval(() => void check().catch(() => {}), beatMs)
  timer.unref()
  return {
    async confirm() {
      const now = clocks()
      const pauseMs = Math.max(now.steady - confirmed.steady, now.wall - confirmed.wall)
      if (lost || pauseMs > silenceMs / 2) await check()
    },
    async [Symbol.asyncDispose]() {
      clearInterval(timer)
      const [highest = 0] = await generations(folder)
      if (highest > mine) return
      await replace(folder, mine, { ...self, released: true })
      await rm(beatOf(folder, mine), { force: true })
    },
  }
}

/** Neither stands still in every pause: the one of the process, the other of a virtual machine. */
const clocks = () => ({ steady: performance.now(), wall: Date.now() })

/** Whether the owner can be succeeded; listens to one that cannot be looked at. */
async function isGone(
  folder: string,
  generation: number,
  {
    current,
    self,
    silenceMs,
    onListen,
  }: Pick<Required<LockOptions>, 'self' | 'silenceMs' | 'onListen'> & {
    readonly current: LockOwner
  },
): Promise<boolean> {
  const judgement = await judgeOwner(folder, current, self)
  if (judgement !== 'unknown') return judgement === 'dead'
  if (current.beatMs === undefined) return false
  onListen(current)
  const heard = await readBeat(folder, generation)
  // Only this process's own clock counts: those of two machines need not agree.
  const started = performance.now()
  while (performance.now() - started < silenceMs) {
    await sleep(Math.min(1000, silenceMs / 10))
    const [newest] = await generations(folder)
    if (newest !== generation) return false
    const owner = await readOwner(folder, generation)
    if (!owner || owner.released === true) return true
    if ((await readBeat(folder, generation)) !== heard) return false
  }
  return true
}

function locked(folder: string, generation: number, { pid, host }: LockOwner): CodedError {
  return new CodedError(
    'STORE_LOCKED',
    `the data folder is in use by process ${pid} on host ${host}; stop that one first, or remove ${fileOf(folder, generation)} if that host is gone`,
    { detail: { pid, host } },
  )
}

function takenOver({ pid, host }: Partial<LockOwner> = {}): CodedError {
  return new CodedError(
    'STORE_LOCKED',
    `process ${pid} on host ${host} took the data folder over while this process stood still for long; this one ends`,
    { detail: { pid, host } },
  )
}

const fileOf = (folder: string, generation: number): string => join(folder, `${generation}.json`)
const beatOf = (folder: string, generation: number): string => join(folder, `${generation}.beat`)

/** Highest first. */
async function generations(folder: string): Promise<number[]> {
  const names = await readdir(folder)
  return names
    .filter((name) => /^\d+\.json$/.test(name))
    .map((name) => Number.parseInt(name, 10))
    .sort((a, b) => b - a)
}

/** Empty before the first one. */
async function readBeat(folder: string, generation: number): Promise<string> {
  return (await readOptional(beatOf(folder, generation)))?.toString() ?? ''
}

/** `undefined` where a successor has removed it already. */
async function readOwner(folder: string, generation: number): Promise<LockOwner | undefined> {
  const path = fileOf(folder, generation)
  const bytes = await readOptional(path)
  return bytes && decodeJson(lockOwner, bytes, path)
}

async function readOptional(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path)
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined
    throw error
  }
}

/** False where the generation exists. */
async function claim(folder: string, generation: number, self: LockOwner): Promise<boolean> {
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

async function replace(folder: string, generation: number, value: LockOwner): Promise<void> {
  const scratch = join(folder, `${randomUUID()}.tmp`)
  await writeFile(scratch, encodeJson(value), { flush: true })
  await rename(scratch, fileOf(folder, generation))
}
