import { readFile, readlink, statfs } from 'node:fs/promises'
import { hostname } from 'node:os'
import { z } from 'zod'
import { hasErrno } from '../core/errors.ts'

/** Who owns a folder, as far as others can look it up. */
export const lockOwner = z.object({
  pid: z.int(),
  host: z.string(),
  /** Clock ticks from boot to the start of the process: another one with its pid has other ticks. */
  startTicks: z.string().optional(),
  /** Of the running kernel: containers of one machine have the same. */
  bootId: z.string().optional(),
  /** In which pids mean the same. */
  pidNamespace: z.string().optional(),
  /** It rewrites its `.beat` file at least so often; without it its silence means nothing. */
  beatMs: z.number().optional(),
  released: z.boolean().optional(),
})
export type LockOwner = z.output<typeof lockOwner>

/** File systems that no two machines can use at a time: ext, xfs, btrfs, tmpfs, overlay, zfs, f2fs. */
const localFileSystems = new Set([
  0xef53, 0x58465342, 0x9123683e, 0x01021994, 0x794c7630, 0x2fc12fc1, 0xf2f52010,
])

export async function describeSelf(): Promise<LockOwner> {
  return {
    pid: process.pid,
    host: hostname(),
    startTicks: await startTicksOf(process.pid),
    bootId: (await optional(readFile('/proc/sys/kernel/random/boot_id', 'utf8')))?.trim(),
    pidNamespace: await optional(readlink('/proc/self/ns/pid')),
  }
}

/**
 * What can be known of the owner of `folder` at once. `unknown`: it runs, if it does, where this
 * process cannot look: another machine, or a container beside this one.
 */
export async function judgeOwner(
  folder: string,
  owner: LockOwner,
  self: LockOwner,
): Promise<'alive' | 'dead' | 'unknown'> {
  if (owner.released === true) return 'dead'
  if (owner.bootId !== self.bootId) {
    // On a disk of this machine only: whoever wrote that did so before the machine last started.
    const { type } = await statfs(folder)
    return localFileSystems.has(type) && owner.bootId !== undefined ? 'dead' : 'unknown'
  }
  // Versions before this one did not write the namespace.
  const { pidNamespace = self.pidNamespace } = owner
  if (owner.host !== self.host || pidNamespace !== self.pidNamespace) return 'unknown'
  if (!processExists(owner.pid)) return 'dead'
  return owner.startTicks === (await startTicksOf(owner.pid)) ? 'alive' : 'dead'
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
  const stat = await optional(readFile(`/proc/${pid}/stat`, 'utf8'))
  // The second field is the program's name in brackets and may hold anything.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ')
  // Killed, and its parent has not asked for its exit code yet.
  const isDead = fields?.[0] === 'Z' || fields?.[0] === 'X'
  return isDead ? undefined : fields?.[19]
}

async function optional(read: Promise<string>): Promise<string | undefined> {
  try {
    return await read
  } catch (error) {
    if (hasErrno(error, 'ENOENT') || hasErrno(error, 'ESRCH')) return undefined
    throw error
  }
}
