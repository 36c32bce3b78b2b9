import { readdir, readFile } from 'node:fs/promises'

/** What a running program holds of the machine. */
export interface ProcessState {
  readonly rssBytes: number
  readonly openFiles: number
}

export async function readProcessState(pid: number): Promise<ProcessState> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  const [, kibibytes = '0'] = /^VmRSS:\s+(\d+) kB$/m.exec(status) ?? []
  const files = await readdir(`/proc/${pid}/fd`)
  return { rssBytes: Number(kibibytes) * 1024, openFiles: files.length }
}
