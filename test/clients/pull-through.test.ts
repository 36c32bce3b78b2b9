import { afterAll, beforeAll, expect, it } from 'vitest'
import { goTool } from '../fixtures/go-tools.ts'
import { startDockerRegistry, type RunningServer } from '../fixtures/servers.ts'
import {
  fetchImage,
  fetchIndex,
  setUpClient,
  wholeImage,
  wholeIndex,
  type ClientSetup,
} from './client-setup.ts'

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

it("pulls an index with its images from us into Debian's docker-registry", async () => {
  expect(await fetchIndex(peer, 'upstream', 'latest')).toEqual(wholeIndex(client.layout))
})

it('pulls through that cache by crane', async () => {
  const [amd64] = client.layout.images
  const image = `${peer.host}/upstream@${amd64.digest}`
  await client.run(goTool('crane'), ['validate', '--remote', image])
  expect(await fetchImage(peer, 'upstream', amd64.digest)).toEqual(wholeImage(amd64))
})

it('pulls what a tag has moved to', async () => {
  const [amd64, arm64] = client.layout.images
  const ours = `${client.server.host}/upstream`
  const crane = (...args: readonly string[]) => client.run(goTool('crane'), args)
  await crane('tag', `${ours}@${amd64.digest}`, 'moving')
  expect(await crane('digest', `${peer.host}/upstream:moving`)).toBe(amd64.digest)
  await crane('tag', `${ours}@${arm64.digest}`, 'moving')
  expect(await crane('digest', `${peer.host}/upstream:moving`)).toBe(arm64.digest)
})
