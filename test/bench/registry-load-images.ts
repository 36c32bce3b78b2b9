import { digestOf } from '../../core/digest.ts'
import { mediaTypes } from '../../core/manifest.ts'
import type { z } from 'zod'
import { contentOf } from './registry-content.ts'
import { pushBlob } from './registry-load-blobs.ts'
import type { jobs } from './registry-load-jobs.ts'
import { expectStatus, inParallel } from './registry-load-requests.ts'
import { manifestConfig } from './registry-load-small.ts'
import { seededBlob } from './registry-seeded-blobs.ts'

type Args<Name extends keyof typeof jobs> = z.output<(typeof jobs)[Name]['args']>

const checksAtOnce = 16

let isStopped = false

export async function pushImages({
  url,
  name,
  size,
  seed,
  from,
  to,
  connections,
}: Args<'pushImages'>) {
  const config = contentOf(manifestConfig.size, manifestConfig.seed)
  const at: number[] = []
  isStopped = false
  await inParallel(url, { connections, count: to - from }, async (pool, index) => {
    if (isStopped) return
    const number = from + index
    const layer = contentOf(size, `${seed}-${number}`)
    await pushBlob(layer, { url, name, size, seed })
    const manifest = {
      schemaVersion: 2,
      mediaType: mediaTypes.ociManifest,
      config: { mediaType: mediaTypes.ociConfig, digest: config.digest, size: config.size },
      layers: [{ mediaType: mediaTypes.ociLayer, digest: layer.digest, size }],
    }
    await expectStatus(pool, 201, {
      method: 'PUT',
      path: `/v2/${name}/manifests/${tagOf(seed, number)}`,
      headers: { 'content-type': mediaTypes.ociManifest },
      body: JSON.stringify(manifest),
    })
    at.push(performance.timeOrigin + performance.now())
  })
  return { at }
}

export async function stopImages() {
  isStopped = true
  return {}
}

export async function countLostImages({
  url,
  name,
  size,
  seed,
  from,
  to,
}: Args<'countLostImages'>) {
  let lost = 0
  const options = { connections: checksAtOnce, count: to - from }
  await inParallel(url, options, async (pool, index) => {
    const number = from + index
    const { digest } = contentOf(size, `${seed}-${number}`)
    const manifest = await pool.request({
      method: 'GET',
      path: `/v2/${name}/manifests/${tagOf(seed, number)}`,
    })
    const text = await manifest.body.text()
    const layer = await pool.request({ method: 'HEAD', path: `/v2/${name}/blobs/${digest}` })
    await layer.body.dump()
    if (!text.includes(digest) || layer.statusCode !== 200) lost++
  })
  return { lost }
}

export async function countSeeded({ url, count }: Args<'countSeeded'>) {
  let lost = 0
  let left = 0
  await inParallel(url, { connections: checksAtOnce, count }, async (pool, number) => {
    const { repository, digest, isKept } = seededBlob(number)
    const path = `/v2/${repository}/blobs/${digest}`
    const { statusCode, body } = await pool.request({ method: 'GET', path })
    const bytes = await body.bytes()
    const isThere = statusCode === 200 && digestOf(bytes) === digest
    if (isKept && !isThere) lost++
    if (!isKept && statusCode !== 404) left++
  })
  return { lost, left }
}

const tagOf = (seed: string, number: number): string => `${seed}-${number}`
