import { pino, type Logger } from 'pino'

export type Log = Logger

/** JSON lines on stderr, so that stdout stays for results. */
export function createLog(level: string): Log {
  return pino({ level, base: null }, pino.destination({ fd: 2, sync: false }))
}
