import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import type { RegistryEvent } from './events.ts'

/** @see distribution, docs/about/notifications.md */
export const envelopeType = 'application/vnd.docker.distribution.events.v2+json'

/** An event as receivers get it; what is stored is read back as it was written. */
export const sentEvent = z.looseObject({ id: z.string(), timestamp: z.iso.datetime() })
export type SentEvent = z.output<typeof sentEvent>

/** The process that saw the event. */
export interface EventSource {
  readonly host: string
  readonly instance: string
}

/** The event in the form that receivers of `registry:2` know. */
export function toSentEvent(
  { action, target, actor, request }: RegistryEvent,
  { host, instance }: EventSource,
): SentEvent {
  const { repository, digest, size, mediaType, tag, fromRepository } = target
  const isManifest = mediaType !== undefined && mediaType !== blobType
  const path = `/v2/${repository}/${isManifest ? 'manifests' : 'blobs'}/${digest}`
  return {
    id: randomUUID(),
    timestamp: new Date().toISOString(),
    action,
    target: {
      mediaType,
      digest,
      size,
      length: size,
      repository,
      fromRepository,
      tag,
      url:
        request && mediaType !== undefined
          ? `${request.scheme}://${request.host}${path}`
          : undefined,
    },
    request: request && {
      id: request.id,
      addr: request.remote,
      host: request.host,
      method: request.method,
      useragent: request.userAgent,
    },
    actor: actor === undefined ? {} : { name: actor },
    source: { addr: host, instanceID: instance },
  }
}

/** Media type of blobs in events: nobody says what is in them. */
export const blobType = 'application/octet-stream'

/** What is posted. */
export function toEnvelope(events: readonly SentEvent[]): Buffer {
  return Buffer.from(JSON.stringify({ events }))
}
