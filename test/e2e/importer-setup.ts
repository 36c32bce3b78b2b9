import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { passwords, teamRules, writeUsers } from '../fixtures/access-server.ts'
import { createAuthority } from '../fixtures/certificates.ts'
import { freePort } from '../fixtures/ports.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { startCommand, type Outcome } from './dvcr-command.ts'
import { startTlsServer, type TlsServer } from './tls-server.ts'

/** `dvcr importer` at work. */
export interface RunningPod {
  /** Where it serves its metrics. */
  readonly url: string
  /** Its scratch folder. */
  readonly scratch: string
  kill(signal: NodeJS.Signals): void
  readonly ended: Promise<
    Outcome & {
      /** What it left in its termination log. */
      readonly message: Readonly<Record<string, unknown>>
    }
  >
}

/** A server with TLS and `teamRules`, and pods that import into it. */
export interface PodSetup extends AsyncDisposable {
  readonly server: TlsServer
  readonly folder: string
  /** Of alice, as a mounted secret. */
  readonly login: string
  /** Settings are without their prefix; the target is the server, unless they say another. */
  start(settings: Readonly<Record<string, string>>): Promise<RunningPod>
  run(settings: Readonly<Record<string, string>>): RunningPod['ended']
}

export async function startPodSetup(): Promise<PodSetup> {
  await using stack = new AsyncDisposableStack()
  const { path: folder } = stack.use(await createTempFolder())
  const { ca, issue } = await createAuthority(folder)
  await writeUsers(folder)
  const access = join(folder, 'access.yaml')
  await writeFile(access, stringify(teamRules))
  const data = join(folder, 'data')
  const args = ['--auth-config', access]
  const server = stack.use(await startTlsServer({ data, ca, files: await issue('server'), args }))
  const login = join(folder, 'login')
  await mkdir(login)
  await writeFile(join(login, 'user'), 'alice\n')
  await writeFile(join(login, 'password'), `${passwords.alice}\n`)
  let pods = 0

  async function start(settings: Readonly<Record<string, string>>): Promise<RunningPod> {
    const own = join(folder, `pod-${++pods}`)
    const [scratch, log] = [join(own, 'scratch'), join(own, 'termination-log')]
    await mkdir(own)
    const listen = `127.0.0.1:${await freePort()}`
    const all = {
      TARGET: server.url,
      TARGET_CA: ca,
      TARGET_CREDENTIALS: login,
      IMPORT_POLICY: 'restricted,+127.0.0.1',
      IMPORT_RETRY_SECONDS: '0',
      SCRATCH: scratch,
      TERMINATION_LOG: log,
      LISTEN: listen,
      OWNER_UID: 'uid-1',
      ...settings,
    }
    const entries = Object.entries(all).map(([key, value]) => [`DVCR_IMPORTER_${key}`, value])
    const command = startCommand(['importer'], { env: Object.fromEntries(entries) })
    const ended = command.ended.then(async (outcome) => ({
      ...outcome,
      message: Object(JSON.parse(await readFile(log, 'utf8'))),
    }))
    return { url: `http://${listen}`, scratch, kill: command.kill, ended }
  }

  const owned = stack.move()
  return {
    server,
    folder,
    login,
    start,
    run: async (settings) => (await start(settings)).ended,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}
