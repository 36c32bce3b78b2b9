import { createBlobHash } from '../core/blob-hash.ts'
import { CodedError } from '../core/errors.ts'
import type { HashPool } from '../core/hash-pool.ts'
import { inPieces, type Bytes } from '../core/streams.ts'

export const checksumAlgorithms = ['md5', 'sha1', 'sha256', 'sha512'] as const
export type ChecksumAlgorithm = (typeof checksumAlgorithms)[number]

/** Expected checksums of the transferred bytes, lower-case hex. */
export type Checksums = { readonly [Algorithm in ChecksumAlgorithm]?: string | undefined }

/** What checking needs to go on behind the first `bytes` transferred bytes. */
export interface ChecksumState {
  readonly bytes: number
  /** One for each checksum that is expected. */
  readonly hashes: Checksums
}

export interface VerifyOptions {
  readonly hashPool: HashPool
  readonly label: string
  /** Where `body` begins. */
  readonly from?: ChecksumState | undefined
  /** Told a state now and then; never where this platform cannot go on from one. */
  readonly onState?: ((state: ChecksumState) => void) | undefined
}

const pieceBytes = 1024 * 1024
const stateEveryBytes = 16 * pieceBytes

const wantedOf = (expected: Checksums): ChecksumAlgorithm[] =>
  checksumAlgorithms.filter((algorithm) => expected[algorithm] !== undefined)

/** Where checking that has seen nothing begins; all there is to know where nothing is expected. */
export function checksumStart(expected: Checksums, bytes: number): ChecksumState | undefined {
  return bytes === 0 || wantedOf(expected).length === 0 ? { bytes, hashes: {} } : undefined
}

/** True where this platform can go on from `state` for all that is expected. */
export function canResume({ bytes, hashes }: ChecksumState, expected: Checksums): boolean {
  return (
    bytes === 0 ||
    wantedOf(expected).every(
      (algorithm) =>
        hashes[algorithm] !== undefined &&
        createBlobHash({ algorithm }, hashes[algorithm]) !== undefined,
    )
  )
}

/**
 * The same bytes; after the last one every expected checksum is compared, so who sees the end saw
 * checked bytes. Throws CHECKSUM_MISMATCH with both values.
 */
export async function* verified(
  body: Bytes,
  expected: Checksums,
  { hashPool, label, from, onState }: VerifyOptions,
): AsyncGenerator<Uint8Array, void> {
  const wanted = wantedOf(expected)
  if (wanted.length === 0) return yield* body
  using hashes = new DisposableStack()
  const running = wanted.map((algorithm) => ({
    algorithm,
    hash: hashes.use(hashPool.hashStream({ algorithm, from: from?.hashes[algorithm] })),
  }))
  let bytes = from?.bytes ?? 0

  async function reportState(): Promise<void> {
    const states = await Promise.all(
      running.map(async ({ algorithm, hash }) => [algorithm, await hash.save()] as const),
    )
    if (states.every(([, state]) => state !== undefined)) {
      onState?.({ bytes, hashes: Object.fromEntries(states) })
    }
  }

  for await (const piece of inPieces(body, pieceBytes)) {
    await Promise.all(running.map(({ hash }) => hash.write(piece)))
    bytes += piece.length
    if (onState && bytes % stateEveryBytes < pieceBytes) await reportState()
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
