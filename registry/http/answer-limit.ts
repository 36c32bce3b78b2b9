import type { FastifyInstance } from 'fastify'
import { createPace, type FloorSpeed } from './floor-speed.ts'
import { factsOf } from './request-facts.ts'
import { cutOff, watchStall } from './transport.ts'

/**
 * Cuts clients off that are slower than `speed` to take an answer that is sent as a whole: until
 * they have it, it is in memory. What is sent in pieces has limits of its own (`response-body.ts`).
 */
export function limitAnswers(app: FastifyInstance, speed: FloorSpeed): void {
  app.addHook('onSend', async ({ raw, log }, reply, payload) => {
    const bytes = lengthOf(payload)
    if (bytes === 0) return
    const cut = (): void => {
      log.info({ bytes }, 'an answer was taken too slowly and was cut off')
      factsOf(raw).isTooSlow = true
      cutOff(raw)
    }
    const watching = new DisposableStack()
    const pace = watching.use(createPace(speed, cut))
    watching.use(watchStall(raw, speed.stallLimitMs, cut))
    pace.begin(bytes)
    const stop = (): void => watching.dispose()
    // First of all, before Node begins to wait for the connection's next request.
    reply.raw.prependOnceListener('finish', stop)
    reply.raw.once('close', stop)
  })
}

function lengthOf(payload: unknown): number {
  if (typeof payload === 'string') return Buffer.byteLength(payload)
  return payload instanceof Uint8Array ? payload.length : 0
}
