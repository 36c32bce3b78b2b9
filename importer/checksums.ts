import { CodedError } from '../core/errors.ts'
import type { HashPool } from '../core/hash-pool.ts'
import { inPieces, type Bytes } from '../core/streams.ts'

export const checksumAlgorithms = ['md5', 'sha1', 'sha256', 'sha512'] as const
export type ChecksumAlgorithm = (typeof checksumAlgorithms)[number]

/** Expected checksums of the transferred bytes, lower-case hex. */
export type Checksums = { readonly [Algorithm in ChecksumAlgorithm]?: string | undefined }

/**
 * The same bytes; after the last one every expected checksum is compared, so who sees the end saw
 * checked bytes. Throws CHECKSUM_MISMATCH with both values.
 */
export async function* verified(
  body: Bytes,
  expected: Checksums,
  { hashPool, label }: { readonly hashPool: HashPool; readonly label: string },
): AsyncGenerator<Uint8Array, void> {
  const wanted = checksumAlgorithms.filter((algorithm) => expected[algorithm] !== undefined)
  if (wanted.length === 0) return yield* body
  using hashes = new DisposableStack()
  const running = wanted.map((algorithm) => ({
    algorithm,
    hash: hashes.use(hashPool.hashStream({ algorithm })),
  }))
  for await (const piece of inPieces(body, 1024 * 1024)) {
    await Promise.all(running.map(({ hash }) => hash.write(piece)))
    yield piece
  }
  for (const { algorithm, hash } of running) {
    const { hex } = await hash.finish()
    if (hex === expected[algorithm]) continue
    throw new CodedError(
      'CHECKSUM_MISMATCH',
      `${label} has ${algorithm} ${hex}, expected ${expected[algorithm]}; the file was changed or damaged`,
      { detail: { algorithm, actual: hex, expected: expected[algorithm] } },
    )
  }
}
