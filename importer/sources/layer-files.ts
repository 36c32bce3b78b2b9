import { CodedError } from '../../core/errors.ts'
import type { Bytes } from '../../core/streams.ts'
import { readTar, type RefuseTar, type TarEntry } from '../../core/tar-reader.ts'
import type { ArchivedFile } from '../only-file.ts'

const folder = 'disk'
const whiteout = '.wh.'
const opaque = '.wh..wh..opq'

/**
 * The files that lie in `/disk` where these layers are put on each other, from the topmost layer
 * down. `openLayer` is asked for a layer, as a plain tar, only if one above does not hide it as a
 * whole; each is read to its end. Throws IMAGE_UNSAFE for links and devices in there,
 * FORMAT_UNSUPPORTED for files below it, COMPRESSION_INVALID for a layer that is no tar.
 * @see OCI image-spec layer.md §whiteouts
 */
export async function* diskFiles(
  layers: number,
  openLayer: (index: number) => Bytes,
): AsyncGenerator<ArchivedFile, void> {
  const hidden = createHidden()
  for (let index = layers - 1; index >= 0 && !hidden.isAll; index--) {
    for await (const entry of readTar(openLayer(index), refuseLayer)) {
      const [first = '', ...path] = partsOf(entry)
      const isWhole = path.length === 0
      if (isWhole && (first === opaque || first === whiteout + folder)) hidden.hideAll()
      if (first !== folder || hidden.note(path, entry)) continue
      yield { name: path.join('/'), size: entry.size, contents: entry.contents }
    }
    hidden.endOfLayer()
  }
}

/** What the layers so far hide of those below. Paths are relative to `/disk`. */
function createHidden() {
  const above = new Set<string>()
  let own = new Set<string>()
  let isAll = false
  let isAllBelow = false
  let hasFolder = false

  const isHidden = (path: readonly string[]): boolean =>
    path.some((_, index) => above.has(path.slice(0, index + 1).join('/')))

  /** `/disk` itself: true where the entry is done with. */
  function noteFolder({ type }: TarEntry): void {
    if (type === 'directory') hasFolder = true
    // A folder of a layer above hides whatever else this is, with all that is below.
    else if (hasFolder) isAllBelow = true
    else throw unsafe(folder, type)
  }

  return {
    get isAll() {
      return isAll
    },
    /** True where the entry is no file that is seen. */
    note(path: readonly string[], entry: TarEntry): boolean {
      const [last = ''] = path.slice(-1)
      const parent = path.slice(0, -1)
      if (path.length === 0) noteFolder(entry)
      else if (last === opaque && parent.length === 0) isAllBelow = true
      else if (last === opaque) own.add(parent.join('/'))
      else if (last.startsWith(whiteout)) {
        own.add([...parent, last.slice(whiteout.length)].join('/'))
      } else if (entry.type !== 'directory') {
        own.add(path.join('/'))
        hasFolder = true
        if (isHidden(path)) return true
        if (entry.type !== 'file' && entry.type !== 'contiguous-file') {
          throw unsafe(`${folder}/${path.join('/')}`, entry.type)
        }
        if (parent.length === 0) return false
        throw new CodedError(
          'FORMAT_UNSUPPORTED',
          `the image has a file below /${folder}: ${JSON.stringify(path.join('/'))}; the disk must be the one file directly in it`,
        )
      }
      return true
    },
    /** `/disk` is removed, with all that layers below have in it. */
    hideAll() {
      isAllBelow = true
    },
    endOfLayer() {
      for (const path of own) above.add(path)
      own = new Set()
      isAll = isAllBelow
    },
  }
}

/** Nothing is ever written under these names; those that go up are refused as nobody's mistake. */
function partsOf({ name }: TarEntry): string[] {
  const parts = name.split('/').filter((part) => part !== '' && part !== '.')
  if (!parts.includes('..')) return parts
  throw new CodedError(
    'IMAGE_UNSAFE',
    `the image has a path that leaves it: ${JSON.stringify(name.slice(0, 200))}`,
  )
}

const unsafe = (path: string, type: string | undefined): CodedError =>
  new CodedError(
    'IMAGE_UNSAFE',
    `/${path} in the image is a ${type ?? 'thing of an unknown type'}; the disk must be a plain file in a plain folder`,
  )

const refuseLayer: RefuseTar = (cause, { isCut }) =>
  new CodedError(
    'COMPRESSION_INVALID',
    isCut ? 'a layer of the image is cut off' : 'a layer of the image is not a tar',
    { cause },
  )
