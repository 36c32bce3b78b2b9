import { parseImageReference, parseTag, parseName } from '../core/reference.ts'
import { formatSize } from '../core/sizes.ts'
import type { ImageRecord } from '../importer/images.ts'
import { openTarget, type TargetFlags } from './target.ts'
import { writeTable } from './table.ts'
import type { CommandContext } from './terminal.ts'

type Flags = TargetFlags & { readonly json?: boolean; readonly replace?: boolean }

/** `dvcr images [name]` */
export async function listCommand(
  name: string | undefined,
  flags: Flags,
  { terminal }: CommandContext,
): Promise<void> {
  await using target = await openTarget(flags, terminal)
  const images = await target.images.list({
    name: name === undefined ? undefined : parseName(name),
  })
  if (flags.json) return void terminal.stdout.write(`${JSON.stringify(images, undefined, 2)}\n`)
  writeTable(
    terminal.stdout,
    ['IMAGE', 'FORMAT', 'VIRTUAL SIZE', 'STORED', 'DIGEST'],
    images.map(row),
  )
}

function row(image: ImageRecord): string[] {
  return [
    `${image.name}:${image.tag ?? ''}`,
    image.format ?? '-',
    image.virtualSize === undefined ? '-' : formatSize(image.virtualSize),
    formatSize(image.storedSize),
    image.digest.slice(0, 'sha256:'.length + 12),
  ]
}

/** `dvcr rm <image>` */
export async function removeCommand(
  text: string,
  flags: Flags,
  { terminal }: CommandContext,
): Promise<void> {
  await using target = await openTarget(flags, terminal)
  await target.images.delete(parseImageReference(text))
  terminal.stdout.write(`removed ${text}\n`)
}

/** `dvcr tag <image> <tag>` */
export async function tagCommand(
  text: string,
  tag: string,
  flags: Flags,
  { terminal }: CommandContext,
): Promise<void> {
  await using target = await openTarget(flags, terminal)
  const image = parseImageReference(text)
  const { digest } = await target.images.tag(image, parseTag(tag), {
    replace: flags.replace ?? false,
  })
  terminal.stdout.write(`${image.name}:${tag} is ${digest}\n`)
}
