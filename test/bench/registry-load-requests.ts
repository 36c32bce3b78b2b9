import { Pool } from 'undici'

/** Milliseconds that `count` calls take with so many at a time, on connections that are open. */
export async function inParallel(
  url: string,
  { connections, count }: { readonly connections: number; readonly count: number },
  call: (pool: Pool, index: number) => Promise<void>,
): Promise<number> {
  const pool = new Pool(url, { connections })
  let next = 0
  const work = async (): Promise<void> => {
    while (next < count) await call(pool, next++)
  }
  try {
    const ping = () => expectStatus(pool, 200, { method: 'GET', path: '/v2/' })
    await Promise.all(Array.from({ length: connections }, ping))
    const started = performance.now()
    await Promise.all(Array.from({ length: connections }, work))
    return performance.now() - started
  } finally {
    await pool.destroy()
  }
}

/** The answer with its body; throws where it has another status. */
export async function expectStatus(
  pool: Pool,
  status: number,
  request: {
    readonly method: 'GET' | 'HEAD' | 'PUT'
    readonly path: string
    readonly headers?: Record<string, string>
    readonly body?: string
  },
) {
  const { statusCode, headers, body } = await pool.request(request)
  const text = await body.text()
  if (statusCode === status) return { headers, body: text }
  throw new Error(
    `${request.method} ${request.path} was answered ${statusCode}, not ${status}: ${text}`,
  )
}
