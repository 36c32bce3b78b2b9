import { expect } from 'vitest'
import { z } from 'zod'
import { importedImageSchema } from '../../importer/import-record.ts'
import type { Outcome } from './dvcr-command.ts'

const printedSchema = importedImageSchema.extend({ name: z.string(), tag: z.string() })

/** What `dvcr import --json` printed; fails the test unless the import succeeded. */
export function printedImport({ exitCode, stdout, stderr }: Outcome) {
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 })
  return printedSchema.parse(JSON.parse(stdout))
}
