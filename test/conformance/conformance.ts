import { randomUUID } from 'node:crypto'
import { beforeAll, describe, expect, it } from 'vitest'
import { createSend, errorCodeOf, type Send } from './client.ts'
import { manifestConformance } from './manifests.ts'
import { pullConformance } from './pull.ts'
import { pushConformance } from './push.ts'

/**
 * The OCI distribution spec's table of endpoints, walked over HTTP against any registry.
 * @see OCI distribution-spec §endpoints
 */
export function conformance(url: () => string): void {
  describe('OCI distribution', () => {
    let send: Send
    const name = `conformance/${randomUUID()}`
    const subject = { name, send: ((...request) => send(...request)) satisfies Send }

    beforeAll(() => {
      send = createSend(url())
    })

    it('end-1: answers the probe', async () => {
      const answer = await subject.send('GET', '/v2/')
      expect(answer.status).toBe(200)
      expect(answer.headers.get('docker-distribution-api-version')).toBe('registry/2.0')
    })

    it('refuses a name that is not one, in the form of the spec', async () => {
      const answer = await subject.send('POST', '/v2/Upper/blobs/uploads/')
      expect([answer.status, errorCodeOf(answer)]).toEqual([400, 'NAME_INVALID'])
    })

    pullConformance(subject)
    pushConformance(subject)
    manifestConformance(subject)
  })
}
