import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Command } from 'commander'
import { createProgram } from '../cli/program.ts'
import { importerPrefix, importerSettings } from '../cli/importer-settings.ts'
import { serveSettings } from '../cli/serve-settings.ts'
import { describeSettings } from '../core/config.ts'
import { errorCodes } from '../core/error-codes.ts'

// Writes the pages of docs/ that repeat what the code says. With --check it writes nothing and
// fails where a page is old.

const made = '<!-- Made by `npm run generate`; do not edit. -->'
const pages: Readonly<Record<string, string>> = {
  'docs/settings.md': settingsPage(),
  'docs/errors.md': errorsPage(),
  'docs/cli.md': cliPage(),
}

const root = join(import.meta.dirname, '..')
const isCheck = process.argv.includes('--check')
for (const [path, text] of Object.entries(pages)) {
  if (!isCheck) {
    await writeFile(join(root, path), text)
    continue
  }
  const old = await readFile(join(root, path), 'utf8').catch(() => '')
  if (old === text) continue
  console.error(`${path} is older than the code: npm run generate`)
  process.exitCode = 1
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}

function settingsPage(): string {
  const rows = describeSettings(serveSettings).map(
    ({ key, flag, env, type, defaultValue, description }) => [
      `\`${key}\``,
      type === 'structure' ? 'file only' : `\`${flag}\``,
      type === 'structure' ? '' : `\`${env}\``,
      defaultValue === '' ? '' : `\`${defaultValue}\``,
      description,
    ],
  )
  const importerRows = describeSettings(importerSettings, importerPrefix).map(
    ({ env, defaultValue, description }) => [
      `\`${env}\``,
      defaultValue === '' ? '' : `\`${defaultValue}\``,
      description,
    ],
  )
  return `# Settings

${made}

## dvcr serve

A setting is taken from its flag, else from the environment, else from the YAML file (\`--config\` or
\`DVCR_CONFIG\`), else it has its default. An unknown key in the file is an error.

${table(['key in the file', 'flag', 'environment', 'default', 'what it is'], rows)}

## dvcr importer

Only from the environment; secrets only from files ([in a pod](operations.md#import-in-a-pod)). \`SOURCE\`, \`TARGET\`
and \`IMAGE\` must be given. \`http_proxy\`, \`https_proxy\` and \`no_proxy\` count for the source.

${table(['environment', 'default', 'what it is'], importerRows)}

## Other commands

They take \`--server\` (\`DVCR_SERVER\`, default \`http://127.0.0.1:5000\`) and keep their
temporary files in \`DVCR_SCRATCH\`, else in the system's folder for them.
`
}

function errorsPage(): string {
  const rows = Object.entries(errorCodes).map(([code, { status, retryable, meaning }]) => [
    `\`${code}\``,
    String(status),
    retryable ? 'yes' : 'no',
    meaning,
  ])
  return `# Errors

${made}

The same code stands in the HTTP body (\`{"errors":[{"code","message","detail"}]}\`), in the import's
record, on the last line of a command and in the metrics. Under \`/v2/\` clients see the codes of the
OCI specification; ours is then in \`detail.code\`.

A code that may pass ("retry" says yes) makes a command exit with 3. Transfers from a source are tried
again by themselves, from where they broke if the source allows it.

${table(['code', 'HTTP', 'retry', 'what it means and what to do'], rows)}
`
}

/** `dvcr registry gc` */
function nameOf(command: Command): string {
  return command.parent ? `${nameOf(command.parent)} ${command.name()}` : command.name()
}

function cliPage(): string {
  const program = createProgram({
    terminal: process,
    signal: new AbortController().signal,
    extendStop: () => {},
  })
  const all = program.commands.flatMap((command) => [command, ...command.commands])
  const commands = [program, ...all].map((command) => {
    command.configureHelp({ helpWidth: 100 })
    const name = nameOf(command)
    return `## ${name}\n\n\`\`\`\n${command.helpInformation().trimEnd()}\n\`\`\``
  })
  return `# Command line

${made}

Results go to stdout, progress and messages to stderr: a live bar on a terminal, a plain line every few
seconds elsewhere. With \`--json\` the result is JSON.

${table(
  ['exit code', 'meaning'],
  [
    ['0', 'done'],
    ['1', 'failed, and trying again will not help; the last line says why'],
    ['2', 'wrong usage, settings, name, tag or address'],
    ['3', 'failed for a reason that may pass: try again'],
    ['130', 'interrupted by Ctrl-C or SIGTERM; an import that was running was cancelled'],
  ],
)}

${commands.join('\n\n')}
`
}
