import { Command, CommanderError, Option } from 'commander'
import { describeSettings } from '../core/config.ts'
import { CodedError, toCodedError } from '../core/errors.ts'
import { exitCodeOf, exitCodes } from './exit-code.ts'
import { addRegistryCommands } from './registry-commands.ts'
import { serveSettings } from './serve-settings.ts'
import type { CommandContext, Terminal } from './terminal.ts'
import { version } from './version.ts'

/** Runs one command line and answers the exit code; failures are one line on stderr. */
export async function runCli(argv: readonly string[], terminal: Terminal): Promise<number> {
  const interrupt = new AbortController()
  let stopLimitMs = 30_000
  const stop = (): void => {
    interrupt.abort(new CodedError('CANCELLED', 'interrupted'))
    // A second signal, or something that does not let go, ends the process the hard way.
    setTimeout(() => process.kill(process.pid, 'SIGKILL'), stopLimitMs).unref()
    process.once('SIGINT', () => process.kill(process.pid, 'SIGKILL'))
  }
  process.once('SIGINT', stop)
  process.once('SIGTERM', stop)
  const program = createProgram({
    terminal,
    signal: interrupt.signal,
    extendStop: (ms) => (stopLimitMs += ms),
  })
  try {
    await program.parseAsync([...argv])
    return exitCodes.ok
  } catch (error) {
    if (error instanceof CommanderError)
      return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage
    if (interrupt.signal.aborted) {
      terminal.stderr.write('dvcr: interrupted\n')
      return exitCodes.interrupted
    }
    const coded = toCodedError(error)
    terminal.stderr.write(`dvcr: ${coded.code}: ${coded.message}\n`)
    if (coded.code === 'UNKNOWN') terminal.stderr.write(`${String(coded.cause)}\n`)
    return exitCodeOf(coded)
  } finally {
    process.off('SIGINT', stop)
    process.off('SIGTERM', stop)
  }
}

const serverOption = new Option('--server <url>', 'the dvcr server')
  .default('http://127.0.0.1:5000')
  .env('DVCR_SERVER')
const dataOption = new Option('--data <dir>', 'a store on this machine, without a server')
const jsonOption = new Option('--json', 'print JSON')

/** The command line; parsing it runs the command. `docs/cli.md` is made from it. */
export function createProgram(context: CommandContext): Command {
  const { terminal } = context
  const program = new Command('dvcr')
    .description('A registry and import service for virtual-machine disk images')
    .version(version)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void terminal.stdout.write(text),
      writeErr: (text) => void terminal.stderr.write(text),
    })

  const serve = program
    .command('serve')
    .description('Run the registry and the import service on a folder')
    .option('--config <file>', 'settings from a YAML file; the environment and flags win')
  for (const { flag, env, type, defaultValue, description } of describeSettings(serveSettings)) {
    if (type === 'structure') continue
    const value = type === 'boolean' ? '' : ` <${type === 'number' ? 'n' : 'value'}>`
    const shown = defaultValue === '' ? '' : `default ${defaultValue}, `
    serve.option(`${flag}${value}`, `${description} (${shown}env ${env})`)
  }
  serve.action(async (flags) => (await import('./serve.ts')).serve(flags, context))

  program
    .command('import <source> <image>')
    .description(
      'Import a disk image: http(s)://, s3://bucket/key, docker://host/name:tag, image:name:tag of the same registry, oci:folder, a file or block device, or - for standard input',
    )
    .addOption(serverOption)
    .addOption(dataOption)
    .option('--replace', 'move the tag if it already exists')
    .addOption(
      new Option('--store <mode>', 'how to store raw disks')
        .choices(['auto', 'as-is'])
        .default('auto'),
    )
    .option(
      '--arch <name>',
      'architecture of the disk (found on it unless given), or which one of an image',
    )
    .option('--md5 <hex>', 'expected checksum of the source')
    .option('--sha1 <hex>', 'expected checksum of the source')
    .option('--sha256 <hex>', 'expected checksum of the source')
    .option('--sha512 <hex>', 'expected checksum of the source')
    .option('--checksums-url <url>', 'list of checksums (SHA256SUMS) that names the source')
    .option('--s3-endpoint <url>', 'server of an s3:// source; without it AWS')
    .option('--s3-region <name>', 'region of the bucket of an s3:// source')
    .option('--mirror <url...>', 'the same file elsewhere, used where the source fails')
    .option('--user <name>', 'name, or access key id, of the source (with --password-file)')
    .option('--password-file <file>', 'password or secret access key (env DVCR_SOURCE_PASSWORD)')
    .option('--token-file <file>', 'bearer, identity or session token (env DVCR_SOURCE_TOKEN)')
    .option('--headers-file <file>', 'more headers of each request, one Name: value per line')
    .option('--docker-login', 'give the server the login that docker keeps for the registry')
    .option('--ca <file>', 'PEM file: authority of the source')
    .option('--insecure-skip-verify', 'accept any certificate of the source')
    .addOption(jsonOption)
    .action(async (source, image, flags) =>
      (await import('./import-command.ts')).importCommand({ source, image, flags }, context),
    )

  program
    .command('importer')
    .description(
      'Import one image into a registry elsewhere, as a pod: its settings are DVCR_IMPORTER_… in the environment (docs/settings.md)',
    )
    .action(async () => (await import('./importer-command.ts')).importerCommand(context))

  const importsModule = async () => import('./imports-command.ts')
  const imports = program
    .command('imports')
    .description('List imports, newest first; hold, repeat or end one of a server')
    .addOption(serverOption)
    .addOption(dataOption)
    .addOption(jsonOption)
    .action(async (flags) => (await importsModule()).importsCommand(flags, context))
  for (const [change, description] of [
    ['pause', 'Hold an import until retry'],
    ['retry', 'Let a paused import go on, or one that failed or was cancelled run again'],
    ['cancel', 'End an import'],
  ] as const) {
    imports
      .command(`${change} <id>`)
      .description(description)
      .action(async (id, _flags, command: Command) =>
        (await importsModule()).changeImportCommand(
          { change, id },
          command.optsWithGlobals(),
          context,
        ),
      )
  }

  const images = async () => import('./images-command.ts')
  program
    .command('images [name]')
    .description('List images')
    .addOption(serverOption)
    .addOption(dataOption)
    .addOption(jsonOption)
    .action(async (name, flags) => (await images()).listCommand(name, flags, context))
  program
    .command('inspect <image>')
    .description('Show one image: where it comes from, what is on its disk')
    .addOption(serverOption)
    .addOption(dataOption)
    .option('--content', 'read the disk, say what its content is and whether the image says so')
    .addOption(jsonOption)
    .action(async (image, flags) =>
      (await import('./inspect-command.ts')).inspectCommand(image, flags, context),
    )
  program
    .command('rm <image>')
    .description(
      'Delete a tag (name:tag; the last one with its image), or an image with all its tags (name@digest)',
    )
    .addOption(serverOption)
    .addOption(dataOption)
    .action(async (image, flags) => (await images()).removeCommand(image, flags, context))
  program
    .command('tag <image> <tag>')
    .description('Give an image one more tag')
    .addOption(serverOption)
    .addOption(dataOption)
    .option('--replace', 'move the tag if it already exists')
    .action(async (image, tag, flags) => (await images()).tagCommand(image, tag, flags, context))

  addRegistryCommands(program, serverOption, context)

  const login = async () => import('./login-command.ts')
  program
    .command('login <registry>')
    .description('Log in to a registry; the login is kept where docker keeps its own')
    .option('-u, --username <name>', 'name; asked for where it is missing')
    .option('--password-stdin', 'read the password or token from standard input')
    .action(async (registry, flags) => (await login()).loginCommand(registry, flags, context))
  program
    .command('logout <registry>')
    .description('Forget the login of a registry')
    .action(async (registry) => (await login()).logoutCommand(registry, context))
  return program
}
