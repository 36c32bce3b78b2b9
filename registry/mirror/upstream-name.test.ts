import { expect, test } from 'vitest'
import { readUpstream } from './upstream-name.ts'

test.each([
  ['https://registry.example', 'a/b', 'https://registry.example/', 'registry.example', 'a/b'],
  ['http://127.0.0.1:5000/', 'a', 'http://127.0.0.1:5000/', '127.0.0.1:5000', 'a'],
  ['https://ghcr.io/team/', 'a', 'https://ghcr.io/', 'ghcr.io', 'team/a'],
  ['https://docker.io', 'debian', 'https://registry-1.docker.io/', 'docker.io', 'library/debian'],
  ['https://docker.io', 'a/b', 'https://registry-1.docker.io/', 'docker.io', 'a/b'],
])('%s: %s', (upstream, name, origin, host, upstreamName) => {
  const names = readUpstream(upstream)
  expect([names.origin.href, names.host]).toEqual([origin, host])
  expect(names.nameOf(name)).toBe(upstreamName)
})
