import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'

/** `dvcr serve` with the mirror `hub`, and a folder that outlives it. */
export interface MirrorSetup extends AsyncDisposable {
  readonly folder: string
  readonly server: RunningServer
  /** Value of a counter, by its name and labels as `/metrics` writes them. */
  counter(line: string): Promise<number>
  /** Other settings for the mirror, read on SIGHUP. */
  reload(settings: MirrorFields): Promise<void>
  /** SIGKILL, then the same server again. */
  crash(): Promise<void>
}

export interface MirrorFields {
  readonly upstream: string
  readonly [key: string]: unknown
}

/** `data`: where the store is; a folder of its own unless said. `args`: more flags. */
export async function startMirror(
  settings: MirrorFields,
  options: { readonly data?: string; readonly args?: readonly string[] } = {},
): Promise<MirrorSetup> {
  await using owned = new AsyncDisposableStack()
  const folder = owned.use(await createTempFolder()).path
  const config = join(folder, 'dvcr.yaml')
  const write = (fields: MirrorFields) =>
    writeFile(config, JSON.stringify({ mirrors: [{ prefix: 'hub', ...fields }] }))
  await write(settings)
  const { data = join(folder, 'data'), args = [] } = options
  const start = () => startDvcr({ data, args: ['--config', config, ...args] })
  let server = await start()
  owned.defer(() => server[Symbol.asyncDispose]())
  const stack = owned.move()
  return {
    folder,
    get server() {
      return server
    },
    async counter(line) {
      const metrics = await (await fetch(`${server.url}/metrics`)).text()
      const found = metrics.split('\n').find((one) => one.startsWith(`${line} `))
      return Number(found?.slice(line.length) ?? 0)
    },
    async reload(fields) {
      await write(fields)
      process.kill(server.pid, 'SIGHUP')
    },
    async crash() {
      await server.kill9()
      server = await start()
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}
