import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { hasErrno } from '../../core/errors.ts'

/** What a measured run took of the machine. */
export interface Usage {
  readonly wallMs: number
  /** User and system time of all processes and threads. */
  readonly cpuMs: number
  /** Servers with their children; a page that two processes share counts twice. */
  readonly serverRssBytes: number
  /** Servers and commands together. */
  readonly totalRssBytes: number
}

/** One unit of the times in `/proc/<pid>/stat`: Linux tells programs 100 a second everywhere. */
const tickMs = 10
const sampleIntervalMs = 25

/**
 * Runs `run` and measures it together with what the live processes `servers` do meanwhile.
 * `run` reports the processes it starts, and must have waited for them when it resolves; nothing
 * else may start processes at the same time.
 */
export async function measure(
  servers: readonly number[],
  run: (started: (pid: number | undefined) => void) => Promise<void>,
): Promise<Usage> {
  const commands: number[] = []
  const cpuBeforeMs = reapedCpuMs() + sum(servers.map(treeCpuMs))
  // Linux then counts the peak anew: a peak between two samples is seen too.
  for (const pid of servers) forgetPeakRss(pid)
  let childrenPeak = 0
  let totalPeak = 0
  const sample = () => {
    const own = sum(servers.map(rssBytes))
    const children = sum(servers.flatMap(descendants).map(rssBytes))
    const command = sum(commands.flatMap((pid) => [pid, ...descendants(pid)]).map(rssBytes))
    childrenPeak = Math.max(childrenPeak, children)
    totalPeak = Math.max(totalPeak, own + children + command)
  }
  const timer = setInterval(sample, sampleIntervalMs)
  try {
    const startedMs = performance.now()
    await run((pid) => {
      if (pid !== undefined) commands.push(pid)
    })
    const wallMs = performance.now() - startedMs
    const serverRssBytes = sum(servers.map(peakRssBytes)) + childrenPeak
    return {
      wallMs,
      cpuMs: reapedCpuMs() + sum(servers.map(treeCpuMs)) - cpuBeforeMs,
      serverRssBytes,
      totalRssBytes: Math.max(totalPeak, serverRssBytes),
    }
  } finally {
    clearInterval(timer)
  }
}

/** CPU time of the ended processes this one started, with all that those started and waited for. */
function reapedCpuMs(): number {
  const { reapedTicks } = stat(process.pid)
  return reapedTicks * tickMs
}

/** CPU time of the process, of its children and of those it has waited for. */
export function treeCpuMs(pid: number): number {
  const all = [pid, ...descendants(pid)].map(stat)
  return sum(all.map(({ ownTicks, reapedTicks }) => ownTicks + reapedTicks)) * tickMs
}

/** @see proc_pid_stat(5): utime, stime, cutime, cstime are the fields 14 to 17. */
function stat(pid: number): { readonly ownTicks: number; readonly reapedTicks: number } {
  const text = readProc(`${pid}/stat`)
  // Fields are counted after the program's name, which may hold spaces.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const ticks = (field: number): number => Number(fields[field - 3] ?? 0)
  return { ownTicks: ticks(14) + ticks(15), reapedTicks: ticks(16) + ticks(17) }
}

function descendants(pid: number): number[] {
  const children = threads(pid).flatMap((thread) =>
    readProc(`${pid}/task/${thread}/children`).split(' ').filter(Boolean).map(Number),
  )
  return children.flatMap((child) => [child, ...descendants(child)])
}

function threads(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`)
  } catch (error) {
    if (isGone(error)) return []
    throw error
  }
}

const rssBytes = (pid: number): number => statusBytes(pid, 'VmRSS')
/** The most memory the process ever had at one time, or had since `forgetPeakRss`. */
export const peakRssBytes = (pid: number): number => statusBytes(pid, 'VmHWM')

export function forgetPeakRss(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, '5')
}

function statusBytes(pid: number, name: string): number {
  const [, kib] = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(readProc(`${pid}/status`)) ?? []
  return Number(kib ?? 0) * 1024
}

/** Empty where the process has ended. */
function readProc(path: string): string {
  try {
    return readFileSync(`/proc/${path}`, 'latin1')
  } catch (error) {
    if (isGone(error)) return ''
    throw error
  }
}

function isGone(error: unknown): boolean {
  return hasErrno(error, 'ENOENT') || hasErrno(error, 'ESRCH')
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
