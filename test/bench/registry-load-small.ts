import { Pool } from 'undici'
import type { z } from 'zod'
import { contentOf } from './registry-content.ts'
import type { jobs } from './registry-load-jobs.ts'
import { expectStatus, inParallel } from './registry-load-requests.ts'

type Args<Name extends keyof typeof jobs> = z.output<(typeof jobs)[Name]['args']>

const manifestType = 'application/vnd.oci.image.manifest.v1+json'
const configType = 'application/vnd.oci.image.config.v1+json'

/** The blob that every manifest names; push it first. */
export const manifestConfig = { size: 1000, seed: 'config' } as const

export async function putManifests({ url, name, from, to, connections }: Args<'putManifests'>) {
  const { digest, size } = contentOf(manifestConfig.size, manifestConfig.seed)
  const config = { mediaType: configType, digest, size }
  const ms = await inParallel(url, { connections, count: to - from }, async (pool, index) => {
    const manifest = {
      schemaVersion: 2,
      mediaType: manifestType,
      config,
      layers: [],
      annotations: { 'org.example.number': String(from + index) },
    }
    const tag = `v${String(from + index).padStart(6, '0')}`
    await expectStatus(pool, 201, {
      method: 'PUT',
      path: `/v2/${name}/manifests/${tag}`,
      headers: { 'content-type': manifestType },
      body: JSON.stringify(manifest),
    })
  })
  return { ms }
}

export async function headBlobs({ url, name, count, connections, ...blob }: Args<'headBlobs'>) {
  const { digest } = contentOf(blob.size, blob.seed)
  const ms = await inParallel(url, { connections, count }, async (pool) => {
    await expectStatus(pool, 200, { method: 'HEAD', path: `/v2/${name}/blobs/${digest}` })
  })
  return { ms }
}

export async function listTags({ url, name, n }: Args<'listTags'>) {
  let pages = 0
  let tags = 0
  const ms = await inParallel(url, { connections: 1, count: 1 }, async (pool) => {
    let path: string | undefined = `/v2/${name}/tags/list${n === undefined ? '' : `?n=${n}`}`
    while (path !== undefined) {
      const { body, headers } = await expectStatus(pool, 200, { method: 'GET', path })
      pages++
      tags += body.split('"v').length - 1
      const next = /<([^>]*)>/.exec(String(headers['link'] ?? ''))?.[1]
      path = next === undefined ? undefined : new URL(next, url).href.slice(url.length)
    }
  })
  return { ms, pages, tags }
}

interface Poll {
  readonly at: number
  readonly ms: number
}

let polling: { stop(): Promise<readonly Poll[]> } | undefined

export async function startPolling({ url, name, size, seed }: Args<'startPolling'>) {
  const { digest } = contentOf(size, seed)
  const path = `/v2/${name}/blobs/${digest}`
  const polls: Poll[] = []
  let isStopped = false
  const run = async (): Promise<readonly Poll[]> => {
    const pool = new Pool(url, { connections: 1 })
    try {
      while (!isStopped) {
        const started = performance.now()
        await expectStatus(pool, 200, { method: 'GET', path })
        polls.push({ at: performance.timeOrigin + started, ms: performance.now() - started })
      }
      return polls
    } finally {
      await pool.destroy()
    }
  }
  const running = run()
  // Reported when it is stopped.
  running.catch(() => {})
  polling = {
    stop() {
      isStopped = true
      return running
    },
  }
  return {}
}

export async function stopPolling({ fromAt, toAt }: Args<'stopPolling'>) {
  const polls = (await polling?.stop()) ?? []
  const maxMs = (some: readonly Poll[]): number => Math.max(0, ...some.map(({ ms }) => ms))
  const during = polls.filter(({ at, ms }) => at <= toAt && at + ms >= fromAt)
  return { maxMs: maxMs(during), maxEverMs: maxMs(polls) }
}
