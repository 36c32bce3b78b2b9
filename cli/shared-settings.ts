import { z } from 'zod'
import { toCodedError } from '../core/errors.ts'
import { parseSize } from '../core/sizes.ts'
import { parseAddressPolicy } from '../importer/sources/address-policy.ts'
import { defaultRetrySeconds } from '../importer/sources/patience.ts'

/** Bytes, written `16Ti` or `4096`. */
export const size = z.string().transform((text, context) => {
  try {
    return parseSize(text)
  } catch {
    context.addIssue({ code: 'custom', message: `not a size: ${text}; write 16Ti or 4096` })
    return z.NEVER
  }
})

/** What every process that imports can be told. */
export const sharedSettings = {
  logLevel: z
    .enum(['error', 'warn', 'info', 'debug'])
    .default('info')
    .describe('Least level to log: error, warn, info or debug'),
  importPolicy: z
    .string()
    .superRefine((text, context) => {
      try {
        parseAddressPolicy(text)
      } catch (error) {
        context.addIssue({ code: 'custom', message: toCodedError(error).message })
      }
    })
    .optional()
    .describe(
      'Where imports connect to: open or restricted (public addresses only), with rules: restricted,+10.1.0.0/16,-*.example; by default open where only this machine is served',
    ),
  importFloorSpeed: size
    .prefault('1Ki')
    .describe(
      'Bytes per second that a source must give on average over importIdleSeconds of waiting, else the connection counts as broken; 0: any',
    ),
  importIdleSeconds: z
    .number()
    .min(1)
    .max(3600)
    .default(60)
    .describe('Seconds without a byte or an answer after which a connection to a source is broken'),
  importRetrySeconds: z
    .number()
    .min(0)
    .max(86_400)
    .default(defaultRetrySeconds)
    .describe('Seconds to wait in all for a source that fails, until bytes come again'),
  maxVirtualSize: size.prefault('16Ti').describe('Largest disk to import'),
  scratch: z.string().min(1).default('/tmp').describe('Folder for temporary files'),
}
