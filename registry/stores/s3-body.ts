import { Readable } from 'node:stream'

/** What the SDK pipes a body into: node's request. */
interface Request extends NodeJS.WritableStream {
  destroy(): void
}

/**
 * The body of one request, sent one chunk at a time: the next one is asked for when the system has
 * taken all of the one before, whose memory may then be used again. What `chunks` throws goes to
 * `fail`; a connection that breaks is the request's to report. Destroying it before all is sent
 * ends the request too.
 */
export class RequestBody extends Readable {
  readonly #chunks: AsyncIterable<Uint8Array>
  readonly #fail: (reason: unknown) => void
  #request: Request | undefined

  constructor(chunks: AsyncIterable<Uint8Array>, fail: (reason: unknown) => void) {
    super()
    this.#chunks = chunks
    this.#fail = fail
  }

  // A stream's own pipe keeps chunks in a queue, and nobody hears when their memory is free.
  override pipe<T extends NodeJS.WritableStream>(request: T): T {
    if (!isRequest(request)) throw new TypeError('not a request')
    this.#request = request
    void this.#send(request)
    return request
  }

  async #send(request: Request): Promise<void> {
    try {
      for await (const chunk of this.#chunks) if (!(await isTaken(request, chunk))) return
      this.#request = undefined
      request.end()
    } catch (error) {
      this.#fail(error)
    }
  }

  override _destroy(_error: Error | null, done: () => void): void {
    this.#request?.destroy()
    done()
  }
}

const isRequest = (target: NodeJS.WritableStream): target is Request => 'destroy' in target

/** True when the system has the bytes; false where the connection is closed. */
function isTaken(request: Request, chunk: Uint8Array): Promise<boolean> {
  return new Promise((resolve) => {
    const onClose = (): void => resolve(false)
    request.once('close', onClose)
    request.write(chunk, (error) => {
      request.off('close', onClose)
      resolve(!error)
    })
  })
}
