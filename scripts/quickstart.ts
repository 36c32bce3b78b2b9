import { execa } from 'execa'
import { readFile } from 'node:fs/promises'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { basename, join, resolve } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { parseListen } from '../cli/address.ts'
import { hasErrno } from '../core/errors.ts'
import { serveDemoDisk } from './demo-source.ts'

const root = join(import.meta.dirname, '..')
const dvcr = join(root, 'bin/dvcr')
const data = join(root, 'dvcr-data')
const logFile = join(root, 'dvcr-quickstart.log')
// npm starts scripts in the project's folder; a path is meant from where the user is.
const userFolder = process.env['INIT_CWD'] ?? process.cwd()

/** A failure the user can act on: its message is all that is printed. */
class QuickstartError extends Error {}

try {
  await quickstart()
} catch (error) {
  if (!(error instanceof QuickstartError)) throw error
  console.error(`quickstart: ${error.message}`)
  process.exitCode = 1
}

async function quickstart(): Promise<void> {
  const { positionals, values } = parseArgs({
    args: process.argv.slice(2).filter((argument) => argument !== '--'),
    allowPositionals: true,
    options: {
      once: { type: 'boolean', default: false },
      listen: { type: 'string', default: process.env['DVCR_LISTEN'] ?? '127.0.0.1:5000' },
    },
  })
  const stopping = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(name, () => stopping.abort())
  await assertPortFree(values.listen)
  await using server = await startServer(values.listen)
  await using demo = positionals[0] === undefined ? await serveDemoDisk() : undefined
  const source = demo?.url ?? sourceOf(positionals[0] ?? '')
  const image = `${demo ? 'demo' : imageName(source)}:latest`
  await runDvcr(['import', source, image, '--replace'], server.url, stopping.signal)
  await runDvcr(['inspect', image], server.url, stopping.signal)
  console.log(nextSteps(values.listen, image))
  if (values.once || stopping.signal.aborted) return
  console.log(`The server runs until Ctrl-C; its log is ${logFile}`)
  await Promise.race([once(stopping.signal, 'abort'), server.ended])
  if (!stopping.signal.aborted) throw new QuickstartError(`dvcr serve ended; see ${logFile}`)
}

async function assertPortFree(listen: string): Promise<void> {
  const { host, port } = parseListen(listen)
  const probe = createServer()
  try {
    probe.listen({ host, port })
    await once(probe, 'listening')
  } catch (error) {
    if (!hasErrno(error, 'EADDRINUSE')) throw error
    const owner = await portOwner(port)
    throw new QuickstartError(
      `port ${port} is in use by ${owner}; stop that, or choose another port: ` +
        `npm run quickstart -- --listen ${host}:${port + 1}`,
    )
  }
  probe.close()
  await once(probe, 'close')
}

async function portOwner(port: number): Promise<string> {
  const sockets = await execa('ss', ['-Hltnp', `sport = :${port}`], { reject: false })
  const [, name, pid] = /\(\("([^"]+)",pid=(\d+)/.exec(sockets.stdout ?? '') ?? []
  return name === undefined ? 'another program' : `${name} (process ${pid})`
}

async function startServer(listen: string) {
  console.log(`$ dvcr serve --listen ${listen} --data ${data}`)
  // A group of its own: Ctrl-C in the terminal reaches the server once, from here.
  const child = execa(dvcr, ['serve', '--listen', listen, '--data', data], {
    reject: false,
    detached: true,
    buffer: false,
    stdin: 'ignore',
    stdout: { file: logFile },
    stderr: { file: logFile },
  })
  let running = true
  const ended = child.then((result) => {
    running = false
    return result
  })
  const url = `http://${listen}`
  while (running && !(await answers(`${url}/readyz`))) await setTimeout(50)
  if (!running) {
    throw new QuickstartError(`dvcr serve did not start: ${await readFile(logFile, 'utf8')}`)
  }
  return {
    url,
    ended,
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM')
      await ended
    },
  }
}

async function answers(url: string): Promise<boolean> {
  return fetch(url).then(
    (response) => response.ok,
    () => false,
  )
}

/** Runs one command as the user would, with its own live output. */
async function runDvcr(args: readonly string[], server: string, signal: AbortSignal) {
  console.log(`\n$ dvcr ${args.join(' ')}`)
  const options = { reject: false, stdio: 'inherit', cancelSignal: signal } as const
  const result = await execa(dvcr, [...args, '--server', server], options)
  if (result.failed) throw new QuickstartError(`dvcr ${args[0]} did not succeed, see above`)
}

function sourceOf(argument: string): string {
  return /^[a-z][a-z0-9+.-]*:\/\//i.test(argument) ? argument : resolve(userFolder, argument)
}

/** An image name out of a file name: `Debian_12.qcow2` gives `debian-12`. */
function imageName(source: string): string {
  const path = source.includes('://') ? decodeURI(new URL(source).pathname) : source
  const name = basename(path)
    .toLowerCase()
    .replace(/(\.(raw|img|qcow2|iso|vmdk|vdi|vhdx?|gz|xz|zst|bz2))+$/, '')
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-+|-+$/g, '')
  return name === '' ? 'disk' : name
}

function nextSteps(listen: string, image: string): string {
  const name = image.slice(0, image.indexOf(':'))
  return `
Pull it (--preserve-digests: skopeo compresses plain layers otherwise):
  skopeo copy --src-tls-verify=false --preserve-digests docker://${listen}/${image} oci:${name}:latest
  oras pull --plain-http ${listen}/${image}
  docker pull ${listen}/${image}

Go on with bin/dvcr:
  ${dvcr} images --server http://${listen}
  ${dvcr} import <url or file> <name:tag> --server http://${listen}

The data is in ${data}; remove that folder and nothing is left.`
}
