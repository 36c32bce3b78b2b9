import { z } from 'zod'
import { redirectModes } from '../registry/redirect.ts'
import { mirrorsSettings } from '../registry/mirror/settings.ts'
import { webhooksSettings } from '../registry/notifications/settings.ts'
import { immutableRule, retentionRule } from '../registry/retention.ts'
import { sharedSettings, size } from './shared-settings.ts'

/** No prefix twice: the account of a rule goes by it. */
const quotasSettings = z
  .array(
    z.strictObject({
      prefix: z
        .string()
        .max(150)
        .regex(/^[a-z0-9._/-]*$/, 'expected the beginning of repository names')
        .describe("What the names begin with, `team/`; '' is all repositories"),
      limit: size.describe('Bytes, `500Gi`'),
    }),
  )
  .refine(
    (quotas) => new Set(quotas.map(({ prefix }) => prefix)).size === quotas.length,
    'two quotas have the same prefix',
  )

/** All settings of `dvcr serve`; help, environment names and `docs/settings.md` come from here. */
export const serveSettings = z.strictObject({
  listen: z
    .string()
    .regex(/^(?:\[[0-9a-fA-F:]+\]|[^:[\]]+):\d{1,5}$/, 'expected host:port')
    .default('127.0.0.1:5000')
    .describe('Address to listen on'),
  data: z
    .string()
    .min(1)
    .default('./dvcr-data')
    .describe('Where the data is: a folder, or s3://bucket/prefix'),
  s3Endpoint: z.url().optional().describe('S3-compatible server; without it AWS'),
  s3Region: z.string().min(1).optional().describe('Region of the bucket'),
  s3PathStyle: z
    .boolean()
    .optional()
    .describe('Name the bucket in the path; by default where there is an endpoint'),
  s3PublicEndpoint: z
    .url()
    .optional()
    .describe('The same server as clients outside reach it, for redirects'),
  s3Redirect: z
    .enum(redirectModes)
    .default('auto')
    .describe('Send clients to the bucket for blobs: auto, always or never'),
  s3Ca: z.string().min(1).optional().describe('PEM file: authority of the S3 server'),
  authConfig: z
    .string()
    .min(1)
    .optional()
    .describe('YAML file that says who may do what (docs/access.md)'),
  insecureNoAuth: z
    .boolean()
    .default(false)
    .describe('Serve other machines without authentication: anyone who reaches it may do anything'),
  maxImports: z.int().min(1).max(64).default(2).describe('Imports that run at a time'),
  ...sharedSettings,
  tlsCert: z.string().min(1).optional().describe('PEM file: certificate to serve HTTPS with'),
  tlsKey: z.string().min(1).optional().describe('PEM file: key of the certificate'),
  tlsClientCa: z
    .string()
    .min(1)
    .optional()
    .describe('PEM file: authority that signs the certificates of clients'),
  maxConnections: z.int().min(1).default(10_000).describe('Connections at a time'),
  floorSpeed: size
    .prefault('1Ki')
    .describe('Bytes per second that a transfer must keep on average; 0: any'),
  drain: z
    .int()
    .min(0)
    .max(86_400)
    .default(20)
    .describe('Seconds that running requests may go on once the server is told to stop'),
  accessLog: z.boolean().default(false).describe('Log a line for every request'),
  importRetentionDays: z.number().min(0).default(30).describe('Days to keep finished imports'),
  orphanGraceHours: z
    .number()
    .min(0)
    .default(48)
    .describe('Hours that a blob of a push waits for a manifest before it is garbage'),
  gcIntervalMinutes: z
    .number()
    .min(0)
    .default(60)
    .describe('Minutes between searches of the whole store for garbage; 0: only when asked'),
  scrubRate: size
    .prefault('0')
    .describe('Bytes per second to verify stored blobs with, a pass a week; 0: only when asked'),
  uploadIdleHours: z
    .number()
    .min(1)
    .default(168)
    .describe('Hours after which an upload that its client has left is removed'),
  minFree: size
    .prefault('16Mi')
    .describe('Bytes of the file system that stay free: uploads that would take them are refused'),
  quotas: quotasSettings
    .default([])
    .describe('Limits on the bytes that repositories below a prefix hold together'),
  retention: z
    .array(retentionRule)
    .default([])
    .describe('Which tags and untagged manifests are kept, by repository'),
  immutableTags: z
    .array(immutableRule)
    .default([])
    .describe('Tags that can never be moved or deleted, by repository'),
  webhooks: webhooksSettings.default([]).describe('Receivers that are told of pushes and deletes'),
  mirrors: mirrorsSettings
    .default([])
    .describe(
      'Prefixes whose repositories are pulled through from other registries (docs/mirror.md)',
    ),
})
export type ServeSettings = z.output<typeof serveSettings>
