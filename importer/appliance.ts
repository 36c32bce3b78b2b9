import { CodedError } from '../core/errors.ts'
import type { HashPool } from '../core/hash-pool.ts'
import { peek, type Bytes } from '../core/streams.ts'
import { isTarHead, readTar, tarHeadBytes, type RefuseTar } from '../core/tar-reader.ts'
import { checksumAlgorithms, verified, type Checksums } from './checksums.ts'
import { decompress } from './decoders/decompress.ts'
import { onlyFile, type ArchivedFile } from './only-file.ts'

/** What comes out of an appliance, or what came in. */
export interface Unpacked {
  readonly body: AsyncGenerator<Uint8Array, void>
  /** Bytes that `body` will give, where the appliance says so. */
  readonly length: number | undefined
  readonly isAppliance: boolean
}

const mostManifestBytes = 1024 * 1024

/**
 * The one disk of an OVA, which may be compressed in there; anything else as it is. A disk that the
 * appliance's manifest names before it comes is compared with what that says. The whole archive is
 * read before the end is told. Throws FORMAT_UNSUPPORTED for several disks or none,
 * CHECKSUM_MISMATCH, IMAGE_INCOMPLETE where the archive is cut off. @see DSP0243 §5.3 OVF package
 */
export async function unpackAppliance(
  plain: Bytes,
  deps: { readonly hashPool: HashPool; readonly maxVirtualSize: number },
): Promise<Unpacked> {
  const { head, rest } = await peek(plain, tarHeadBytes)
  // The descriptor comes first: so it is an appliance and not a disk that begins like a tar.
  if (!isTarHead(head) || !/^[^\0]*\.ovf(?:\0|$)/i.test(nameIn(head))) {
    return { body: rest, length: undefined, isAppliance: false }
  }
  const disks = disksOf(rest, deps)
  const disk = await onlyFile(disks, (first, second) =>
    first && second
      ? new CodedError(
          'FORMAT_UNSUPPORTED',
          `the OVA has more than one disk: ${first.name} and ${second.name}; unpack it and import them one by one`,
        )
      : new CodedError('FORMAT_UNSUPPORTED', 'the OVA has no disk in it'),
  )
  const inner = await decompress(disk.contents, deps).catch(async (error: unknown) => {
    await disks.return()
    throw error
  })
  async function* body(): AsyncGenerator<Uint8Array, void> {
    try {
      yield* inner.body
    } finally {
      await disks.return()
    }
  }
  const length = inner.wrappings.length === 0 ? disk.size : undefined
  return { body: body(), length, isAppliance: true }
}

const nameIn = (head: Uint8Array): string => Buffer.from(head.subarray(0, 100)).toString('latin1')

async function* disksOf(
  archive: Bytes,
  { hashPool }: { readonly hashPool: HashPool },
): AsyncGenerator<ArchivedFile, void> {
  let said = new Map<string, Checksums>()
  for await (const { name, type, size, contents } of readTar(archive, refuseAppliance)) {
    if (type !== 'file' && type !== 'contiguous-file') continue
    if (/\.mf$/i.test(name)) said = await readManifest(contents)
    if (!/\.(?:vmdk|vhdx?|qcow2|img|raw)(?:\.gz)?$/i.test(name)) continue
    const checked = verified(contents, said.get(name) ?? {}, { hashPool, label: name })
    yield { name, size, contents: checked }
  }
}

/** Lines such as `SHA256(disk.vmdk)= 1234…`; what is in no such line says nothing. */
async function readManifest(contents: Bytes): Promise<Map<string, Checksums>> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of contents) {
    size += chunk.length
    if (size > mostManifestBytes) {
      throw new CodedError('FORMAT_UNSUPPORTED', 'the manifest of the OVA is larger than 1 MiB')
    }
    chunks.push(Uint8Array.from(chunk))
  }
  const said = new Map<string, Checksums>()
  for (const line of Buffer.concat(chunks).toString().split('\n')) {
    const [, kind = '', name = '', hex = ''] =
      /^(sha\d+)\s*\((.+)\)\s*=\s*([0-9a-f]+)\s*$/i.exec(line) ?? []
    const algorithm = checksumAlgorithms.find((one) => one === kind.toLowerCase())
    if (algorithm) said.set(name, { [algorithm]: hex.toLowerCase() })
  }
  return said
}

const refuseAppliance: RefuseTar = (cause, { isCut }) =>
  isCut
    ? new CodedError('IMAGE_INCOMPLETE', 'the OVA is cut off in the middle', { cause })
    : new CodedError('FORMAT_UNSUPPORTED', 'the OVA is not a tar to its end', { cause })
