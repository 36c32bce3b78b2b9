import { z } from 'zod'
import { redirectModes } from '../registry/redirect.ts'
import { parseSize } from '../core/sizes.ts'
import { mirrorsSettings } from '../registry/mirror/settings.ts'
import { webhooksSettings } from '../registry/notifications/settings.ts'

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
  logLevel: z
    .enum(['error', 'warn', 'info', 'debug'])
    .default('info')
    .describe('Least level to log: error, warn, info or debug'),
  maxImports: z.int().min(1).max(64).default(2).describe('Imports that run at a time'),
  maxVirtualSize: size.prefault('16Ti').describe('Largest disk to import'),
  scratch: z.string().min(1).default('/tmp').describe('Folder for temporary files'),
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
  webhooks: webhooksSettings
    .default([])
    .describe('Receivers that are told of pushes and deletes'),
  mirrors: mirrorsSettings
    .default([])
    .describe('Repositories below a prefix that are pulled through from other registries'),
})
export type ServeSettings = z.output<typeof serveSettings>
