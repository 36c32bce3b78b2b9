import type { HashPool } from '../core/hash-pool.ts'
import type { Registry } from '../core/registry.ts'
import type { Report } from '../core/report.ts'
import { observed, peek } from '../core/streams.ts'
import { detect, headBytes } from '../converter/detect.ts'
import type { ClusterPool } from '../converter/cluster-pool.ts'
import { unpackAppliance } from './appliance.ts'
import { verified } from './checksums.ts'
import { decompress } from './decoders/decompress.ts'
import { pushImage } from './image-push.ts'
import type { ImportedImage, ImportRequest } from './import-request.ts'
import { packDisk } from './pack.ts'
import { planStorage } from './plan.ts'
import { createProgress } from './progress.ts'

export interface PipelineDeps {
  readonly registry: Registry
  readonly hashPool: HashPool
  readonly clusterPool: ClusterPool
  /** For maps that outgrow memory. */
  readonly scratchFolder: string
  /** Bytes; larger disks are refused with SIZE_EXCEEDED. */
  readonly maxVirtualSize: number
}

/**
 * Imports one image: source → decompress → unpack → detect → plan → pack → push. Nothing is visible before
 * the last step; on any failure or abort everything on the way is dropped. A tag that is taken is
 * found only by that step (`assertTagFree` asks before). Throws `CodedError`.
 */
export async function importImage(
  request: ImportRequest,
  deps: PipelineDeps,
  { signal, report }: { readonly signal: AbortSignal; readonly report: Report },
): Promise<ImportedImage> {
  const repository = deps.registry.repository(request.name)
  const progress = createProgress(report)
  progress.stage('connect')
  await using source = await request.openSource(signal)
  const counted = observed(source.body, (chunk) =>
    progress.transferred(chunk.length, source.length),
  )
  const checked = verified(counted, request.checksums, { ...deps, label: source.label })
  const plain = await decompress(checked)
  const unpacked = await unpackAppliance(plain.body, deps)
  const { head, rest } = await peek(unpacked.body, headBytes)
  await using body = rest

  const length = unpacked.length ?? (plain.wrappings.length === 0 ? source.length : undefined)
  const detected = detect(head, { length })
  report({ type: 'detected', format: detected.format, virtualSize: detected.virtualSize })
  const plan = planStorage(detected, request.store)
  if (plan.warning !== undefined) report({ type: 'warning', message: plan.warning })

  const disk = { body, head, length, detected }
  await using packed = await packDisk(disk, plan, { ...deps, repository, signal, progress })
  return await pushImage(packed, {
    ...request,
    repository,
    sourceLabel: source.label,
    signal,
    progress,
  })
}
