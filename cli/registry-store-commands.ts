import { CodedError } from '../core/errors.ts'
import { parseName } from '../core/reference.ts'
import { formatSize } from '../core/sizes.ts'
import type { QuotaUse } from '../registry/quota.ts'
import type { RepositoryDetail, RepositoryUse } from '../registry/admin/usage.ts'
import { ask } from './prompt.ts'
import { openRegistry, type RegistryFlags } from './registry-target.ts'
import { writeTable } from './table.ts'
import type { CommandContext } from './terminal.ts'

const json = (value: unknown): string => `${JSON.stringify(value, undefined, 2)}\n`

/** `dvcr registry ls [repository]` */
export async function listCommand(
  name: string | undefined,
  flags: RegistryFlags,
  { terminal, signal }: CommandContext,
): Promise<void> {
  await using target = await openRegistry(flags, terminal)
  const { stdout } = terminal
  const { repositories } = target.admin
  if (name !== undefined) {
    const detail = await repositories.describe(parseName(name))
    if (flags.json) stdout.write(json(detail))
    else printRepository(detail, stdout)
    return
  }
  const found: RepositoryUse[] = []
  for await (const repository of repositories.list(signal)) found.push(repository)
  if (flags.json) return void stdout.write(json(found))
  const rows = found.map((one) => [
    one.name,
    String(one.tags),
    String(one.manifests),
    String(one.blobs),
    formatSize(one.bytes),
    one.lastPush ?? '-',
  ])
  writeTable(stdout, ['REPOSITORY', 'TAGS', 'MANIFESTS', 'BLOBS', 'SIZE', 'LAST PUSH'], rows)
}

function printRepository(
  { manifests }: RepositoryDetail,
  out: CommandContext['terminal']['stdout'],
): void {
  const rows = manifests.map(
    ({ digest, tags, bytes, pushedAt, mediaType, artifactType, subject }) => [
      tags.length > 0 ? tags.join(', ') : '-',
      digest,
      formatSize(bytes),
      pushedAt,
      `${typeOf(mediaType, artifactType)}${subject === undefined ? '' : ` of ${subject}`}`,
    ],
  )
  writeTable(out, ['TAGS', 'MANIFEST', 'SIZE', 'PUSHED', 'TYPE'], rows)
}

/** The type of an image's config says less than that of its manifest. */
function typeOf(mediaType: string, artifactType = mediaType): string {
  return /image\.config|container\.image/.test(artifactType) ? mediaType : artifactType
}

/** `dvcr registry rm <repository>` */
export async function removeCommand(
  text: string,
  flags: RegistryFlags & { readonly yes?: boolean },
  { terminal, signal }: CommandContext,
): Promise<void> {
  const name = parseName(text)
  await using target = await openRegistry(flags, terminal)
  const { repositories } = target.admin
  if (!flags.yes) {
    const { manifests } = await repositories.describe(name)
    const tags = manifests.reduce((sum, manifest) => sum + manifest.tags.length, 0)
    const question = `Delete ${name} with ${tags} tags and ${manifests.length} manifests? Type its name: `
    if (terminal.stdin.isTTY !== true) {
      throw new CodedError('SETTING_INVALID', `there is no terminal to ask on; give --yes`)
    }
    const answer = await ask(terminal, question, { signal })
    if (answer !== name) throw new CodedError('CANCELLED', `${name} stays as it is`)
  }
  const removed = await repositories.remove(name)
  if (flags.json) return void terminal.stdout.write(json(removed))
  const { tags, manifests, blobs, bytes } = removed
  terminal.stdout.write(
    `removed ${name}: ${tags} tags, ${manifests} manifests, ${blobs} blobs with ${formatSize(bytes)}; what nobody else has is free in a minute\n`,
  )
}

/** `dvcr registry quota` */
export async function quotaCommand(
  flags: RegistryFlags & { readonly recount?: boolean },
  { terminal }: CommandContext,
): Promise<void> {
  await using target = await openRegistry(flags, terminal)
  const { quotas } = target.admin
  const isExact = flags.recount ? await quotas.recount() : true
  const found = await quotas.list()
  if (flags.json) terminal.stdout.write(json(found))
  else printQuotas(found, terminal)
  if (isExact) return
  throw new CodedError(
    'UNAVAILABLE',
    'things were pushed or deleted all the time while it was counted: the figures may be off by some of that; count again at a quieter time',
  )
}

function printQuotas(quotas: readonly QuotaUse[], { stdout }: CommandContext['terminal']): void {
  const rows = quotas.map(({ prefix, usedBytes, heldBytes, limitBytes }) => [
    prefix === '' ? '(all)' : prefix,
    formatSize(usedBytes),
    formatSize(heldBytes),
    formatSize(limitBytes),
    limitBytes === 0 ? '-' : `${(((usedBytes + heldBytes) / limitBytes) * 100).toFixed(1)}%`,
  ])
  writeTable(stdout, ['REPOSITORIES', 'USED', 'UPLOADING', 'LIMIT', 'FULL'], rows)
}
