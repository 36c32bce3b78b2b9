import type { Readable, Writable } from 'node:stream'

/** What a command may touch of the process. */
export interface Terminal {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly stdin: Readable & { readonly isTTY?: boolean }
  /** Results. */
  readonly stdout: Writable
  /** Progress and messages. */
  readonly stderr: Writable & { readonly isTTY?: boolean; readonly columns?: number }
}

export interface CommandContext {
  readonly terminal: Terminal
  /** Aborted by Ctrl-C and SIGTERM. */
  readonly signal: AbortSignal
  /** The command may take so much longer than others to stop before it is killed. */
  readonly extendStop: (ms: number) => void
}
