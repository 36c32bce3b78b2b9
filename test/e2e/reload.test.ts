import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { startDvcr } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { jsonLines } from './json-lines.ts'

it('SIGHUP applies what can change and names what needs a restart', async () => {
  await using folder = await createTempFolder()
  const config = join(folder.path, 'settings.yaml')
  await writeFile(config, 'logLevel: info\n')
  const data = join(folder.path, 'data')
  await using server = await startDvcr({ data, args: ['--config', config] })
  const lines = (msg: string) => jsonLines(server.output()).filter((line) => line['msg'] === msg)
  const reload = async () => {
    const before = lines('settings reloaded').length
    process.kill(server.pid, 'SIGHUP')
    await expect.poll(() => lines('settings reloaded').length).toBe(before + 1)
  }
  await fetch(`${server.url}/v2/`)
  expect(lines('access')).toEqual([])

  await writeFile(config, 'logLevel: debug\naccessLog: true\nmaxConnections: 7\n')
  await reload()
  await fetch(`${server.url}/v2/none/manifests/x`)
  await expect.poll(() => lines('access').length).toBe(1)
  expect(lines('a request was refused')).toHaveLength(1)
  await expect
    .poll(() => lines('these settings need a restart'))
    .toMatchObject([{ settings: ['maxConnections'] }])

  await writeFile(config, 'logLevel: loud\n')
  process.kill(server.pid, 'SIGHUP')
  await expect.poll(() => lines('the new settings are refused; the old ones stay')).toHaveLength(1)
  await fetch(`${server.url}/v2/`)
  await expect.poll(() => lines('access').length).toBe(2)
})
