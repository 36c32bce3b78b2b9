import { z } from 'zod'
import { eventActions } from './events.ts'

/** One receiver of events. */
export const webhookSettings = z.strictObject({
  name: z
    .string()
    .regex(/^[a-z0-9]+(?:-[a-z0-9]+)*$/, 'expected lower-case letters, digits and single dashes')
    .max(60)
    .describe('Names it in logs and metrics'),
  url: z
    .url({ protocol: /^https?$/, hostname: /./ })
    .refine((text) => !/^[^/]*\/\/[^/]*@/.test(text), 'no user in it; use authorizationFile')
    .describe('Events are posted here'),
  actions: z
    .array(z.enum(eventActions))
    .min(1)
    .default(['push', 'delete'])
    .describe('Events that it gets: push, delete, mount, pull'),
  repositories: z
    .array(z.string().min(1))
    .min(1)
    .default(['**'])
    .describe('Globs of repositories: `*` within a path segment, `**` over them'),
  headers: z
    .record(z.string(), z.string())
    .default({})
    .describe('Header lines to send besides; secrets belong into files'),
  authorizationFile: z
    .string()
    .min(1)
    .optional()
    .describe('File whose first line is the Authorization header'),
  secretFile: z
    .string()
    .min(1)
    .optional()
    .describe('File with a key; `X-Hub-Signature-256` then has the HMAC-SHA256 of the body'),
  timeoutSeconds: z.number().min(0.1).max(300).default(10).describe('Time for one answer'),
})
export type WebhookSettings = z.output<typeof webhookSettings>

/** All receivers; no name is given twice. */
export const webhooksSettings = z
  .array(webhookSettings)
  .refine(
    (webhooks) => new Set(webhooks.map(({ name }) => name)).size === webhooks.length,
    'two webhooks have the same name',
  )
