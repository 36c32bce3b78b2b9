import { Option, type Command } from 'commander'
import type { CommandContext } from './terminal.ts'

const dataOption = new Option(
  '--data <place>',
  'a store without a server: a folder of this machine or s3://bucket/prefix',
)
const configOption = new Option(
  '--config <file>',
  'with --data: settings of its server (env DVCR_CONFIG)',
)
const jsonOption = new Option('--json', 'print JSON')

/** `dvcr registry …`: what operators do with a whole store. */
export function addRegistryCommands(
  program: Command,
  serverOption: Option,
  context: CommandContext,
): void {
  const registry = program
    .command('registry')
    .description('Operate a registry: garbage, damage, backup, quotas (docs/operations.md)')
  const add = (name: string, description: string): Command =>
    registry
      .command(name)
      .description(description)
      .addOption(serverOption)
      .addOption(dataOption)
      .addOption(configOption)
      .addOption(jsonOption)

  const checks = async () => import('./registry-check-commands.ts')
  add('gc', 'Look for garbage now and remove it')
    .option('--dry-run', 'only say what is found')
    .option('--wait', 'until it is removed, about a minute')
    .action(async (flags) => (await checks()).gcCommand(flags, context))
  add('fsck', 'Verify that everything stored is as it must be, while the server serves')
    .option('--data-digests', 'also read all bytes of all blobs')
    .action(async (flags) => (await checks()).fsckCommand(flags, context))
  add(
    'scrub',
    'Read all blobs again and take damaged ones out of service; goes on where it was left',
  )
    .option('--rate <bytes>', 'bytes per second', '100Mi')
    .option('--list', 'only show what was taken out of service')
    .option('--purge', 'delete the bytes of what was taken out of service')
    .action(async (flags) => (await checks()).scrubCommand(flags, context))

  const archives = async () => import('./registry-archive-commands.ts')
  add('export', 'Back up everything as one tar file, while the server serves')
    .requiredOption('--to <file>', 'file to write, or - for standard output')
    .action(async (flags) => (await archives()).exportCommand(flags, context))
  add('import', 'Add everything of a backup; what is there already is not stored again')
    .requiredOption('--from <file>', 'file to read, or - for standard input')
    .option('--replace', 'move tags that point elsewhere')
    .action(async (flags) => (await archives()).importCommand(flags, context))

  const stores = async () => import('./registry-store-commands.ts')
  add('ls [repository]', 'List repositories with their sizes, or the manifests of one').action(
    async (name, flags) => (await stores()).listCommand(name, flags, context),
  )
  add('rm <repository>', 'Delete a repository with all its images')
    .option('--yes', 'do not ask')
    .action(async (name, flags) => (await stores()).removeCommand(name, flags, context))
  add('quota', 'Show what the quotas of the settings allow and what is used')
    .option('--recount', 'count anew what is used')
    .action(async (flags) => (await stores()).quotaCommand(flags, context))
}
