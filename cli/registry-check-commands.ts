import { CodedError } from '../core/errors.ts'
import { parseSize, formatDuration, formatSize } from '../core/sizes.ts'
import type { Finding } from '../registry/admin/findings.ts'
import type { GcEvent } from '../registry/admin/gc-run.ts'
import type { ScrubEvent } from '../registry/admin/scrub.ts'
import type { SweepReport } from '../registry/gc/sweep.ts'
import { createLiveLine } from './live-line.ts'
import { damageFound, openRegistry, type RegistryFlags } from './registry-target.ts'
import { writeTable } from './table.ts'
import type { CommandContext } from './terminal.ts'

type GcFlags = RegistryFlags & { readonly dryRun?: boolean; readonly wait?: boolean }

const json = (value: unknown): string => `${JSON.stringify(value)}\n`
const plural = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`

/** `dvcr registry gc` */
export async function gcCommand(
  flags: GcFlags,
  { terminal, signal }: CommandContext,
): Promise<void> {
  await using target = await openRegistry(flags, terminal)
  const { dryRun = false } = flags
  // A command that has the store for itself is gone before what it found is removed.
  const wait = flags.wait === true || flags.data !== undefined
  const line = createLiveLine(terminal)
  let report: SweepReport | undefined
  let first: Extract<GcEvent, { state: unknown }>['state'] | undefined
  let last = first
  for await (const event of target.admin.gc.run({ dryRun, wait, signal })) {
    if ('report' in event) {
      report = event.report
      if (!flags.json) printSweep(report, terminal.stdout)
    } else {
      first ??= event.state
      last = event.state
      const freed = formatSize(last.freedBytes - first.freedBytes)
      if (wait) line.show(`${plural(last.pending, 'thing')} to look at, ${freed} removed`)
    }
  }
  line.end()
  const blobs = (last?.freedBlobs ?? 0) - (first?.freedBlobs ?? 0)
  const bytes = (last?.freedBytes ?? 0) - (first?.freedBytes ?? 0)
  const pending = last?.pending ?? 0
  if (flags.json) terminal.stdout.write(json({ report, freed: { blobs, bytes }, pending }))
  else if (!dryRun) {
    const rest = pending > 0 ? `; ${plural(pending, 'thing')} still to look at, see --wait` : ''
    terminal.stdout.write(`removed ${plural(blobs, 'blob')}, ${formatSize(bytes)}${rest}\n`)
  }
}

function printSweep(report: SweepReport, out: CommandContext['terminal']['stdout']): void {
  const { dryRun, repositories, links, blobs } = report
  const took = formatDuration(Date.parse(report.finishedAt) - Date.parse(report.startedAt))
  out.write(
    `looked at ${plural(repositories, 'repository').replace('repositorys', 'repositories')}, ${plural(links, 'link')} and ${plural(blobs, 'blob')} in ${took}\n`,
  )
  const found = [
    [
      report.unreferencedLinks,
      'blobs that no manifest of their repository needs',
      report.unreferencedBytes,
    ],
    [report.unlinkedBlobs, 'blobs of no repository', report.unlinkedBytes],
    [report.expiredTags, 'tags that retention does not keep'],
    [report.expiredManifests, 'manifests that retention does not keep'],
    [report.danglingTags, 'tags of nothing'],
    [report.unfinishedManifests, 'manifests of pushes that broke'],
    [report.failedRepositories, 'repositories that could not be read: see fsck'],
    [report.orphanReferences, 'references of pushes that broke'],
  ] as const
  const some = found.filter(([count]) => count > 0)
  for (const [count, what, bytes] of some) {
    out.write(`  ${count} ${what}${bytes === undefined ? '' : `, ${formatSize(bytes)}`}\n`)
  }
  if (some.length === 0) out.write('  no garbage\n')
  else if (dryRun) out.write('nothing was removed: this was a dry run\n')
}

/** `dvcr registry fsck` */
export async function fsckCommand(
  flags: RegistryFlags & { readonly dataDigests?: boolean },
  { terminal, signal }: CommandContext,
): Promise<void> {
  await using target = await openRegistry(flags, terminal)
  const { dataDigests = false } = flags
  const line = createLiveLine(terminal)
  const findings: Finding[] = []
  for await (const event of target.admin.fsck({ dataDigests, signal })) {
    if ('progress' in event) {
      const { stage, looks, bytes } = event.progress
      const read = bytes > 0 ? `, ${formatSize(bytes)} read` : ''
      line.show(`${stage}: ${looks} looked at${read}`)
    } else if ('finding' in event) {
      line.end()
      if (flags.json) findings.push(event.finding)
      else terminal.stdout.write(`${describe(event.finding)}\n`)
    } else {
      line.end()
      const { errors, notes, looks, bytes } = event.report
      if (flags.json) terminal.stdout.write(json({ ...event.report, findings }))
      else {
        const read = dataDigests ? `, ${formatSize(bytes)} read` : ''
        terminal.stdout.write(
          `${plural(errors, 'error')}, ${plural(notes, 'note')}; ${looks} looked at${read}\n`,
        )
      }
      if (errors > 0) throw damageFound(`the store has ${plural(errors, 'error')}`)
    }
  }
}

function describe({ level, kind, key, problem, remedy }: Finding): string {
  return `${level} ${kind} ${key}: ${problem}; ${remedy}`
}

type ScrubFlags = RegistryFlags & {
  readonly rate: string
  readonly list?: boolean
  readonly purge?: boolean
}

/** `dvcr registry scrub` */
export async function scrubCommand(flags: ScrubFlags, context: CommandContext): Promise<void> {
  const { terminal } = context
  await using target = await openRegistry(flags, terminal)
  const { scrub } = target.admin
  if (flags.purge) {
    const purged = await scrub.purge()
    const text = `deleted ${plural(purged.blobs, 'damaged blob')}, ${formatSize(purged.bytes)}\n`
    terminal.stdout.write(flags.json ? json(purged) : text)
  } else if (flags.list) {
    const blobs = await scrub.list()
    if (flags.json) return void terminal.stdout.write(json({ ...(await scrub.state()), blobs }))
    const rows = blobs.map(({ digest, size, at, isHealed, why, repositories }) => [
      digest,
      formatSize(size),
      at,
      isHealed ? 'pushed again' : 'push it again',
      `${why} (${repositories.join(', ')})`,
    ])
    writeTable(terminal.stdout, ['BLOB', 'SIZE', 'FOUND', 'STATE', 'WHY'], rows)
  } else {
    const bytesPerSecond = parseSize(flags.rate)
    if (bytesPerSecond === 0) {
      throw new CodedError('REQUEST_INVALID', '--rate: nothing is read at 0 bytes per second')
    }
    await runScrub(scrub.run({ bytesPerSecond, signal: context.signal }), flags, context)
  }
}

async function runScrub(
  events: AsyncIterable<ScrubEvent>,
  flags: ScrubFlags,
  { terminal }: CommandContext,
): Promise<void> {
  const line = createLiveLine(terminal)
  const damaged: Extract<ScrubEvent, { damaged: unknown }>['damaged'][] = []
  for await (const event of events) {
    if ('progress' in event) {
      const { share, blobs, bytes } = event.progress
      const done = `${(share * 100).toFixed(1)}%`
      line.show(`${done}  ${plural(blobs, 'blob')}  ${formatSize(bytes)} read`, share)
    } else if ('damaged' in event) {
      line.end()
      damaged.push(event.damaged)
      const { digest, why, isQuarantined } = event.damaged
      const outcome = isQuarantined ? 'out of service now: push it again' : 'left as it is'
      if (!flags.json) terminal.stdout.write(`${digest}: ${why}; ${outcome}\n`)
    } else {
      line.end()
      const { blobs, bytes } = event.report
      if (flags.json) terminal.stdout.write(json({ ...event.report, blobsFound: damaged }))
      else terminal.stdout.write(`verified ${plural(blobs, 'blob')}, ${formatSize(bytes)}\n`)
    }
  }
  if (damaged.length > 0) throw damageFound(`${plural(damaged.length, 'blob')} are damaged`)
}
