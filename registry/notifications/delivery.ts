import { createHmac } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { CodedError } from '../../core/errors.ts'
import { envelopeType, toEnvelope, type SentEvent } from './envelope.ts'
import type { WebhookSettings } from './settings.ts'

/**
 * Posts the events to an endpoint. Throws TARGET_UNAVAILABLE where it does not answer with 2xx in
 * time; the message never holds what the request was authorised with. Files are read every time:
 * who changes a secret need not tell anybody.
 */
export async function deliver(
  events: readonly SentEvent[],
  settings: WebhookSettings,
  signal: AbortSignal,
): Promise<void> {
  const body = toEnvelope(events)
  const failed = (why: string, cause?: unknown): CodedError =>
    new CodedError('TARGET_UNAVAILABLE', `cannot deliver to the webhook ${settings.name}: ${why}`, {
      cause,
    })
  let response: Response
  try {
    response = await fetch(settings.url, {
      method: 'POST',
      headers: await headersOf(body, settings),
      body: new Uint8Array(body),
      // Another host must not get what was meant for this one.
      redirect: 'manual',
      signal: AbortSignal.any([signal, AbortSignal.timeout(settings.timeoutSeconds * 1000)]),
    })
    await response.body?.cancel()
  } catch (error) {
    const { cause } = Object(error)
    throw failed(String(cause instanceof Error ? cause.message : error), error)
  }
  if (!response.ok) throw failed(`it answered ${response.status}`)
}

async function headersOf(
  body: Uint8Array,
  { headers, authorizationFile, secretFile }: WebhookSettings,
): Promise<Record<string, string>> {
  const all = { ...headers, 'content-type': envelopeType }
  const authorization = authorizationFile === undefined ? {} : await firstLine(authorizationFile)
  const secret = secretFile === undefined ? undefined : await firstLine(secretFile)
  return {
    ...all,
    ...(typeof authorization === 'string' ? { authorization } : {}),
    ...(secret === undefined ? {} : { 'x-hub-signature-256': signatureOf(body, secret) }),
  }
}

const signatureOf = (body: Uint8Array, secret: string): string =>
  `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`

async function firstLine(path: string): Promise<string> {
  return (await readFile(path, 'utf8')).split('\n', 1)[0]?.trim() ?? ''
}
