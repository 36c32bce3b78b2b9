import { afterAll, beforeAll, expect, it } from 'vitest'
import { goTool } from '../fixtures/go-tools.ts'
import { startDockerRegistry, type RunningServer } from '../fixtures/servers.ts'
import { expectImage, expectWholeIndex, setUpClient, type ClientSetup } from './client-setup.ts'

const stack = new AsyncDisposableStack()
let client: ClientSetup
let peer: RunningServer

beforeAll(async () => {
  client = stack.use(await setUpClient())
  const { server, layout } = client
  const source = `oci:${layout.path}:latest`
  const options = ['--insecure-policy', 'copy', '--quiet', '--all', '--dest-tls-verify=false']
  const target = `docker://${server.host}/upstream:latest`
  await client.run('skopeo', [...options, '--preserve-digests', source, target])
  peer = stack.use(await startDockerRegistry({ proxyOf: server.url }))
})
afterAll(() => stack.disposeAsync())

it("Debian's docker-registry pulls an index with its images from us, as a cache", async () => {
  await expectWholeIndex(peer, 'upstream', 'latest', client.layout)
})

it('crane pulls through it', async () => {
  const [amd64] = client.layout.images
  const image = `${peer.host}/upstream@${amd64.digest}`
  await client.run(goTool('crane'), ['validate', '--remote', image])
  await expectImage(peer, 'upstream', amd64.digest, amd64)
})

it('it sees a tag that moved, and an image that was deleted', async () => {
  const [amd64, arm64] = client.layout.images
  const ours = `${client.server.host}/upstream`
  const crane = (...args: readonly string[]) => client.run(goTool('crane'), args)
  await crane('tag', `${ours}@${amd64.digest}`, 'moving')
  expect(await crane('digest', `${peer.host}/upstream:moving`)).toBe(amd64.digest)
  await crane('tag', `${ours}@${arm64.digest}`, 'moving')
  expect(await crane('digest', `${peer.host}/upstream:moving`)).toBe(arm64.digest)
  await crane('delete', `${ours}:moving`)
  await expect(crane('digest', `${client.server.host}/upstream:moving`)).rejects.toThrow('404')
})
