import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { hasErrno } from '../../core/errors.ts'
import { s3Tools } from '../fixtures/bench-servers.ts'
import type { RegistryRound } from './registry-bench.ts'

const path = join(import.meta.dirname, '../../docs/benchmarks-registry.json')
const round: z.ZodType<RegistryRound> = z.record(z.string(), z.record(z.string(), z.number()))

const written = z.object({
  size: z.number(),
  s3Server: z.enum(s3Tools),
  /** By scenario, with its storage. */
  rounds: z.record(z.string(), z.array(round)),
})
/** What the tables in docs/benchmarks.md were made from. */
export type RegistryFigures = z.output<typeof written>

/** Puts new figures in the place of older ones of the same scenarios; all of them, as written. */
export async function mergeFigures(found: RegistryFigures): Promise<RegistryFigures> {
  const before = await read()
  const isComparable = before?.size === found.size && before.s3Server === found.s3Server
  const rounds = { ...(isComparable ? before.rounds : {}), ...found.rounds }
  await writeFile(path, `${JSON.stringify({ ...found, rounds }, undefined, 2)}\n`)
  return { ...found, rounds }
}

async function read(): Promise<RegistryFigures | undefined> {
  try {
    return written.parse(JSON.parse(await readFile(path, 'utf8')))
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined
    throw error
  }
}
