import { elfArchitecture, namedArchitecture } from './architecture.ts'
import { attempt, plainText } from './disk-bytes.ts'
import type { FileTree } from './file-tree.ts'

/** As `os-release` names it. */
export interface OperatingSystem {
  readonly id: string
  readonly version: string | undefined
  readonly name: string | undefined
}

/** What the root of an installed system tells. */
export interface SystemFacts {
  readonly os: OperatingSystem | undefined
  readonly architecture: string | undefined
  /** `undefined` where it cannot be known. */
  readonly hasCloudInit: boolean | undefined
}

const mostTextBytes = 64 * 1024

/** `undefined` where this is not the root of a system. @see os-release(5) */
export async function readSystem(tree: FileTree): Promise<SystemFacts | undefined> {
  const text =
    (await readText(tree, '/etc/os-release')) ?? (await readText(tree, '/usr/lib/os-release'))
  if (text === undefined) return undefined
  return {
    os: parseOsRelease(text),
    architecture: await programArchitecture(tree),
    hasCloudInit: await findCloudInit(tree),
  }
}

/** A CD of Debian or one of its kin says it in a line; others do not. */
export async function readIsoSystem(tree: FileTree): Promise<SystemFacts | undefined> {
  const text = await readText(tree, '/.disk/info')
  if (text === undefined) return undefined
  const [line = ''] = text.split('\n', 1)
  const name = plainText(Buffer.from(line))
  const [id] = /^[a-z]+/i.exec(line) ?? []
  const [version] = /\d[\d.]*/.exec(line) ?? []
  return {
    os: id === undefined ? undefined : { id: id.toLowerCase(), version, name },
    architecture: namedArchitecture(line),
    hasCloudInit: undefined,
  }
}

function parseOsRelease(text: string): OperatingSystem | undefined {
  const fields = new Map<string, string>()
  for (const line of text.split('\n')) {
    const [, key = '', value = ''] = /^\s*([A-Z][A-Z0-9_]*)=(.*?)\s*$/.exec(line) ?? []
    const [, , quoted] = /^(["'])(.*)\1$/.exec(value) ?? []
    fields.set(key, (quoted ?? value).replaceAll(/\\(["'$`\\])/g, '$1'))
  }
  const field = (key: string): string | undefined => plainText(Buffer.from(fields.get(key) ?? ''))
  const id = field('ID')
  if (id === undefined) return undefined
  return { id, version: field('VERSION_ID'), name: field('PRETTY_NAME') }
}

async function programArchitecture(tree: FileTree): Promise<string | undefined> {
  for (const path of ['/bin/sh', '/usr/bin/env', '/sbin/init']) {
    const head = await attempt(async () => (await tree.find(path))?.contents(64))
    const found = head && elfArchitecture(head)
    if (found !== undefined) return found
  }
  return undefined
}

async function findCloudInit(tree: FileTree): Promise<boolean | undefined> {
  return attempt(async () => {
    for (const path of ['/etc/cloud/cloud.cfg', '/usr/bin/cloud-init']) {
      if ((await tree.find(path))?.kind === 'file') return true
    }
    return false
  })
}

async function readText(tree: FileTree, path: string): Promise<string | undefined> {
  return attempt(async () => {
    const file = await tree.find(path)
    return file?.kind === 'file' ? (await file.contents(mostTextBytes)).toString() : undefined
  })
}
