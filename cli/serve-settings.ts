import { z } from 'zod'
import { parseSize } from '../core/sizes.ts'

const size = z.string().transform((text, context) => {
  try {
    return parseSize(text)
  } catch {
    context.addIssue({ code: 'custom', message: `not a size: ${text}; write 16Ti or 4096` })
    return z.NEVER
  }
})

/** All settings of `dvcr serve`; help, environment names and `docs/settings.md` come from here. */
export const serveSettings = z.strictObject({
  listen: z
    .string()
    .regex(/^(?:\[[0-9a-fA-F:]+\]|[^:[\]]+):\d{1,5}$/, 'expected host:port')
    .default('127.0.0.1:5000')
    .describe('Address to listen on'),
  data: z.string().min(1).default('./dvcr-data').describe('Folder of the store'),
  insecureNoAuth: z
    .boolean()
    .default(false)
    .describe('Serve other machines without authentication: anyone who reaches it may do anything'),
  logLevel: z
    .enum(['error', 'warn', 'info', 'debug'])
    .default('info')
    .describe('Least level to log: error, warn, info or debug'),
  maxImports: z.int().min(1).max(64).default(2).describe('Imports that run at a time'),
  maxVirtualSize: size.prefault('16Ti').describe('Largest disk to import'),
  scratch: z.string().min(1).default('/tmp').describe('Folder for temporary files'),
  importRetentionDays: z.number().min(0).default(30).describe('Days to keep finished imports'),
})
export type ServeSettings = z.output<typeof serveSettings>
