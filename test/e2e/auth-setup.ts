import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { teamRules, writeUsers } from '../fixtures/access-server.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'

/** `dvcr serve` with an access file. */
export interface AuthServer extends RunningServer {
  /** Of the access file, what it names, and for the test's own files. */
  readonly folder: string
  /** Puts other rules in the place of the access file. */
  changeRules(rules: object): Promise<void>
}

/** Starts the server with `teamRules`, or others. */
export async function startAuthServer(rules: object = teamRules): Promise<AuthServer> {
  const temporary = await createTempFolder()
  const { path: folder } = temporary
  await writeUsers(folder)
  const file = join(folder, 'access.yaml')
  const changeRules = (next: object): Promise<void> => writeFile(file, stringify(next))
  await changeRules(rules)
  const args = ['--auth-config', file, '--log-level', 'debug']
  const server = await startDvcr({ data: join(folder, 'data'), args })
  return {
    ...server,
    folder,
    changeRules,
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]()
      await temporary[Symbol.asyncDispose]()
    },
  }
}
