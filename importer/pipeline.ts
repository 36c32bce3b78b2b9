import type { HashPool } from '../core/hash-pool.ts'
import type { Registry } from '../core/registry.ts'
import type { Report } from '../core/report.ts'
import type { ClusterPool } from '../converter/cluster-pool.ts'
import { pushImage } from './image-push.ts'
import type { ImportedImage, ImportRequest } from './import-request.ts'
import { openDisk } from './open-disk.ts'
import { packDisk } from './pack.ts'
import { planStorage } from './plan.ts'
import { createProgress } from './progress.ts'
import { prepareResumption } from './resumption.ts'

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
 * Imports one image: source → decompress → unpack → detect → plan → pack → push. Nothing is visible
 * before the last step; on any failure or abort everything on the way is dropped, but for what the
 * request's keeper knows of: a later run goes on with that, or throws BLOB_UPLOAD_UNKNOWN where the
 * registry has lost it. A tag that is taken is found only by the last step (`assertTagFree` asks
 * before). Throws `CodedError`.
 */
export async function importImage(
  request: ImportRequest,
  deps: PipelineDeps,
  { signal, report }: { readonly signal: AbortSignal; readonly report: Report },
): Promise<ImportedImage> {
  const repository = deps.registry.repository(request.name)
  const progress = createProgress(report)
  progress.stage('connect')
  const resumption = await prepareResumption(request)
  await using source = await request.openSource(signal, resumption.place)
  const past = await resumption.pastOf(source)
  await using disk = await openDisk(source, request, past, { ...deps, ...resumption, progress })

  const { detected } = disk
  report({ type: 'detected', format: detected.format, virtualSize: detected.virtualSize })
  const plan = planStorage(detected, request.store)
  if (plan.warning !== undefined) report({ type: 'warning', message: plan.warning })

  await using packed = await packDisk(disk, plan, {
    ...deps,
    repository,
    signal,
    progress,
    past: past?.pack,
    keeper: resumption.keeperOf(source, disk),
  })
  if (packed.warning !== undefined) report({ type: 'warning', message: packed.warning })
  return await pushImage(packed, { ...request, repository, source, signal, progress, report })
}
