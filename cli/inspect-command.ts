import {
  formatImageReference,
  parseImageReference,
  type ImageReference,
} from '../core/reference.ts'
import { formatSize, parseSize } from '../core/sizes.ts'
import { createClusterPool } from '../converter/cluster-pool.ts'
import type { ContentsRecord } from '../importer/contents-annotations.ts'
import { readImageContent, type ImageContent } from '../importer/image-content.ts'
import type { ImageRecord } from '../importer/images.ts'
import { defaultRetrySeconds, retryDelays } from '../importer/sources/patience.ts'
import { createLiveLine } from './live-line.ts'
import { damageFound } from './registry-target.ts'
import { writeTable } from './table.ts'
import { openTarget, type Target, type TargetFlags } from './target.ts'
import type { CommandContext, Terminal } from './terminal.ts'

export type InspectFlags = TargetFlags & { readonly json?: boolean; readonly content?: boolean }

/** The largest disk that qcow2 and our tables were tried with. */
const maxVirtualSize = parseSize('16Ti')

/**
 * `dvcr inspect <image>`; with `--content` the disk is read as well. Throws DAMAGE_FOUND, after all
 * is printed, where its content is not what the image says.
 */
export async function inspectCommand(
  text: string,
  flags: InspectFlags,
  context: CommandContext,
): Promise<void> {
  const { terminal } = context
  const image = parseImageReference(text)
  await using target = await openTarget(flags, terminal)
  const record = await target.images.get(image)
  const content = flags.content ? await readContent(image, record, target, context) : undefined
  if (flags.json) {
    const shown = content ? { ...record, content } : record
    terminal.stdout.write(`${JSON.stringify(shown, undefined, 2)}\n`)
  } else {
    printImage(record, content, terminal)
  }
  const said = record.contentDigest
  if (content && said !== undefined && content.contentDigest !== said) {
    throw damageFound(
      `${text} says that its content is ${said}, and holds ${content.contentDigest}; import it again`,
    )
  }
}

async function readContent(
  { name }: ImageReference,
  { digest, storedSize }: ImageRecord,
  target: Target,
  { terminal, signal }: CommandContext,
): Promise<ImageContent> {
  const { name: _name, reference } = parseImageReference(`${name}@${digest}`)
  const line = createLiveLine(terminal)
  let bytes = 0
  await using clusterPool = createClusterPool()
  try {
    return await readImageContent(target.registry.repository(name), {
      label: formatImageReference({ name, reference }),
      reference,
      ...target,
      clusterPool,
      maxVirtualSize,
      retryDelaysMs: retryDelays(defaultRetrySeconds * 1000),
      signal,
      onBytes(more) {
        bytes += more
        const text = `reading  ${formatSize(bytes)} of ${formatSize(storedSize)}`
        line.show(text, storedSize === 0 ? undefined : bytes / storedSize)
      },
    })
  } finally {
    line.end()
  }
}

function printImage(
  { annotations: _annotations, contents, ...facts }: ImageRecord,
  content: ImageContent | undefined,
  { stdout }: Terminal,
): void {
  const print = (label: string, value: string): void =>
    void stdout.write(`${label.padEnd(16)} ${printable(value)}\n`)
  const sizes = new Set(['storedSize', 'virtualSize', 'fileSize'])
  for (const [key, value] of Object.entries(facts)) {
    const label = key.replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)
    print(label, sizes.has(key) ? `${formatSize(Number(value))} (${value} bytes)` : String(value))
  }
  for (const [label, value] of contents ? contentsRows(contents) : []) print(label, value)
  if (content) {
    const isSame = content.contentDigest === facts.contentDigest
    const verdict = facts.contentDigest === undefined ? 'the image says none' : 'as the image says'
    const compared = isSame || facts.contentDigest === undefined ? verdict : 'NOT as the image says'
    print('content', `${content.contentDigest} (${compared})`)
  }
  printVolumes(contents?.volumes ?? [], stdout)
}

function contentsRows({
  os,
  cloudInit,
  partitionTable,
  firmware,
}: ContentsRecord): (readonly [string, string])[] {
  const version = os?.version === undefined ? '' : ` ${os.version}`
  return [
    ...(os ? [['os', os.name ?? `${os.id}${version}`] as const] : []),
    ...(cloudInit === undefined ? [] : [['cloud-init', cloudInit ? 'yes' : 'no'] as const]),
    ...(firmware ? [['firmware', firmware.join(', ')] as const] : []),
    ...(partitionTable === undefined ? [] : [['partition table', partitionTable] as const]),
  ]
}

function printVolumes(
  volumes: NonNullable<ContentsRecord['volumes']>,
  stdout: Terminal['stdout'],
): void {
  if (volumes.length === 0) return
  stdout.write('\n')
  writeTable(
    stdout,
    ['PARTITION', 'TYPE', 'START', 'SIZE', 'FILE SYSTEM', 'LABEL', 'UUID'],
    volumes.map(({ partition, type, start, size, fileSystem, label, uuid }) =>
      [
        partition === undefined ? 'whole disk' : String(partition),
        type ?? '-',
        formatSize(start),
        formatSize(size),
        fileSystem ?? '-',
        label ?? '-',
        uuid ?? '-',
      ].map(printable),
    ),
  )
}

/** Anyone may push an image that says anything of itself: it must not command the terminal. */
function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '\uFFFD')
}
