import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { pullEverything, pushOver } from '../fixtures/admin-commands.ts'
import { startDvcr } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { startVersitygw } from '../fixtures/versitygw.ts'
import { dvcr } from './dvcr-command.ts'

it('garbage is removed, waited for, by the server and without it, from a folder and a bucket', async () => {
  await using folder = await createTempFolder()
  await using s3 = await startVersitygw()
  const config = join(folder.path, 'config.yaml')
  const retention = [{ repositories: ['ci/**'], keepLast: 1 }]
  await writeFile(config, JSON.stringify({ retention, s3Endpoint: s3.url }))
  const places = [join(folder.path, 'data'), `s3://${s3.bucket}/store`]

  const collect = async (data: string, isOnline: boolean): Promise<void> => {
    // A sweep on its own account would be waited for too.
    const args = ['--config', config, '--gc-interval-minutes', '0']
    await using server = await startDvcr({ data, args })
    for (const tag of ['1', '2']) await pushOver(server.url, 'ci/build', tag)
    const { blobs } = await pushOver(server.url, 'ci/build', '3')
    if (!isOnline) await server.stop()
    const target = isOnline ? ['--server', server.url] : ['--data', data, '--config', config]
    const outcome = await dvcr(['registry', 'gc', '--wait', '--json', ...target])
    expect(outcome).toMatchObject({ exitCode: 0 })
    // Of each of two images its layer and its config.
    expect(JSON.parse(outcome.stdout)).toMatchObject({
      report: { dryRun: false, expiredTags: 2 },
      freed: { blobs: 4, bytes: expect.any(Number) },
      pending: 0,
    })
    await using again = isOnline ? undefined : await startDvcr({ data, args })
    const { url } = again ?? server
    const kept = [...blobs.keys()].map((digest) => `ci/build@${digest}`)
    expect(Object.keys(await pullEverything(url)).toSorted()).toEqual(
      ['ci/build:3', ...kept].toSorted(),
    )
    expect(await dvcr(['registry', 'fsck', '--data-digests', '--server', url])).toMatchObject({
      exitCode: 0,
    })
  }
  await Promise.all(places.map((place, at) => collect(place, at === 0)))
})
