/** What a name of a folder stands for. */
export interface TreeNode {
  readonly kind: 'file' | 'folder' | 'link' | 'other'
  readonly size: number
  /** The first `most` bytes of a file, of a link where it leads. */
  contents(most: number): Promise<Buffer>
  /** Of a folder; ends where it cannot be read on. */
  entries(): AsyncGenerator<TreeEntry, void>
}

export interface TreeEntry {
  readonly name: string
  open(): Promise<TreeNode>
}

/** Files by path, as a machine that has this file system as its root would find them. */
export interface FileTree {
  /** `undefined` where there is no such thing. */
  find(path: string): Promise<TreeNode | undefined>
}

/** What a partition, or a disk without any, holds. */
export interface FileSystem {
  /** As `blkid` names it: `ext4`, `vfat`, `xfs`, `iso9660`, `swap`. */
  readonly type: string
  readonly label: string | undefined
  readonly uuid: string | undefined
  /** Rejects where it cannot be read; `undefined` for one whose files are not read. */
  readonly openTree: (() => Promise<FileTree>) | undefined
}

const mostLinks = 8

/** `ignoresCase`: names differ by more than that. */
export function createFileTree(
  root: TreeNode,
  { ignoresCase = false }: { readonly ignoresCase?: boolean } = {},
): FileTree {
  const asFound = (name: string): string => (ignoresCase ? name.toLowerCase() : name)

  async function child(folder: TreeNode, name: string): Promise<TreeNode | undefined> {
    for await (const entry of folder.entries()) {
      if (asFound(entry.name) === asFound(name)) return entry.open()
    }
    return undefined
  }

  return {
    async find(path) {
      let names = namesIn(path)
      let links = 0
      const way: TreeNode[] = []
      let at = root
      for (;;) {
        const [name, ...rest] = names
        if (name === undefined) return at
        names = rest
        if (name === '..') {
          at = way.pop() ?? root
          continue
        }
        if (at.kind !== 'folder') return undefined
        const next = await child(at, name)
        if (!next) return undefined
        if (next.kind !== 'link') {
          way.push(at)
          at = next
          continue
        }
        if (++links > mostLinks) return undefined
        const target = (await next.contents(4096)).toString()
        names = [...namesIn(target), ...rest]
        if (!target.startsWith('/')) continue
        at = root
        way.length = 0
      }
    },
  }
}

function namesIn(path: string): string[] {
  return path.split('/').filter((name) => name !== '' && name !== '.')
}
