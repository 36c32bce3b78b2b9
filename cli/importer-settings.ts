import { z } from 'zod'
import { CodedError, toCodedError } from '../core/errors.ts'
import { isLoopback } from '../core/loopback.ts'
import { parseImageReference } from '../core/reference.ts'
import { storeModes } from '../importer/plan.ts'
import { parseListen } from './address.ts'
import { sharedSettings } from './shared-settings.ts'

/** Of the names of the variables. */
export const importerPrefix = 'DVCR_IMPORTER_'

/** Where Kubernetes looks, unless a pod says otherwise. */
export const defaultTerminationLog = '/dev/termination-log'

/** Text that `parse` understands; what it throws says what is wrong. */
const parsed = <T>(parse: (text: string) => T) =>
  z.string().transform((text, context) => {
    try {
      return parse(text)
    } catch (error) {
      context.addIssue({ code: 'custom', message: toCodedError(error).message })
      return z.NEVER
    }
  })

/** Logins never go out in the clear. */
function parseTarget(text: string): URL {
  const url = URL.parse(text)
  const host = url?.hostname.replace(/^\[|\]$/g, '') ?? ''
  const isSafe = url?.protocol === 'https:' || (url?.protocol === 'http:' && isLoopback(host))
  if (url && isSafe && url.href === `${url.origin}/`) return url
  throw new CodedError(
    'SETTING_INVALID',
    'expected https://host:port, or http:// on this machine, and nothing more',
  )
}

function parseImage(text: string): { readonly name: string; readonly tag: string } {
  const { name, reference } = parseImageReference(text)
  if (reference.kind === 'tag') return { name, tag: reference.tag }
  throw new CodedError('SETTING_INVALID', 'expected name:tag, not a digest')
}

/** The settings of `dvcr importer`, all in the environment; `docs/settings.md` comes from here. */
export const importerSettings = z.strictObject({
  source: z
    .string()
    .min(1)
    .describe('Where the image comes from: http(s)://, docker://host/name:tag or s3://bucket/key'),
  mirrors: z
    .string()
    .default('')
    .transform((text) => text.split(/\s+/).filter((one) => one !== ''))
    .describe(
      'The same file elsewhere, used where the source fails: addresses with spaces between',
    ),
  md5: z.string().optional().describe('Expected checksum of the source, in hex'),
  sha1: z.string().optional().describe('Expected checksum of the source, in hex'),
  sha256: z.string().optional().describe('Expected checksum of the source, in hex'),
  sha512: z.string().optional().describe('Expected checksum of the source, in hex'),
  checksumsUrl: z
    .string()
    .optional()
    .describe('List of checksums (SHA256SUMS) that names the source'),
  sourceCredentials: z
    .string()
    .min(1)
    .optional()
    .describe(
      'Folder of a mounted secret, with any of the files user, password, token, headers (one Name: value per line), ca.crt, and for docker:// .dockerconfigjson or config.json',
    ),
  insecureSkipVerify: z
    .boolean()
    .default(false)
    .describe('Accept any certificate of the source; of a registry also none at all'),
  s3Endpoint: z.string().optional().describe('Server of an s3:// source; without it AWS'),
  s3Region: z.string().optional().describe('Region of the bucket of an s3:// source'),
  architecture: z
    .string()
    .optional()
    .describe('What the disk is for, and which one of a container image for several'),
  store: z
    .enum(storeModes)
    .default('auto')
    .describe('auto: raw disks are stored as compressed qcow2; as-is: the bytes as they came'),
  target: parsed(parseTarget).describe(
    'Registry to import into: https://host:port; http:// only on this machine',
  ),
  image: parsed(parseImage).describe('What the image is called there: name:tag'),
  replace: z.boolean().default(false).describe('Move the tag if it already exists'),
  targetCredentials: z
    .string()
    .min(1)
    .optional()
    .describe(
      "Folder of a mounted secret with .dockerconfigjson, config.json, or the files user and password; or docker's file itself. Read again whenever the registry asks who we are",
    ),
  targetCa: z
    .string()
    .min(1)
    .optional()
    .describe('PEM file: authority of the target, trusted besides the usual ones'),
  ...sharedSettings,
  importPolicy: sharedSettings.importPolicy
    .default('restricted')
    .describe(
      'Where the source may be: open or restricted (public addresses only), with rules: restricted,+10.1.0.0/16,-*.example',
    ),
  importRetrySeconds: sharedSettings.importRetrySeconds.default(300),
  listen: parsed(parseListen)
    .prefault('0.0.0.0:8080')
    .describe('Address of /metrics and /healthz, as plain HTTP'),
  ownerUid: z.string().max(128).default('').describe('Value of the label ownerUID of the metrics'),
  terminationLog: z
    .string()
    .min(1)
    .default(defaultTerminationLog)
    .describe('File that the outcome is written to, as JSON of at most 4096 bytes'),
})
export type ImporterSettings = z.output<typeof importerSettings>
