import { createConnections } from '../../core/connections.ts'
import { CodedError } from '../../core/errors.ts'
import { retried } from '../../core/retry.ts'
import { checksumAlgorithms, type Checksums } from '../checksums.ts'
import { findChecksums, mostListBytes } from './checksum-list.ts'
import { defaultFloorSpeed } from './floor-speed.ts'
import { connectionError } from './http-errors.ts'
import type { HttpSourceOptions } from './http-source.ts'
import { openWebContent, type WebAddress } from './web-content.ts'

type Options = Omit<HttpSourceOptions, 'isChecked' | 'lanes'>

/** What the list at `address` says of a file. Throws as `follow` and `findChecksums`. */
export async function fetchChecksums(
  address: WebAddress,
  fileName: string,
  { signal, retryDelaysMs: delaysMs, floorSpeed = defaultFloorSpeed, ...options }: Options,
): Promise<Checksums> {
  const { windowMs } = floorSpeed
  const limits = { headersTimeoutMs: windowMs, bodyTimeoutMs: windowMs }
  await using connections = createConnections({ ...options, ...limits })
  // A list is small: what does not come within so long does not come.
  const ending = AbortSignal.any([signal, AbortSignal.timeout(4 * windowMs)])
  const way = { connections, signal: ending }
  const shouldRetry = (error: unknown): boolean => error instanceof CodedError && error.retryable
  const text = await retried(
    async () => {
      const chunks: Uint8Array[] = []
      let size = 0
      try {
        for await (const chunk of (await openWebContent(address, way)).first) {
          size += chunk.length
          if (size > mostListBytes) throw tooLong(address.label)
          chunks.push(chunk)
        }
      } catch (error) {
        signal.throwIfAborted()
        throw connectionError(error, address.label)
      }
      return Buffer.concat(chunks).toString()
    },
    { delaysMs, signal, shouldRetry },
  )
  return findChecksums(text, fileName, address.label)
}

const tooLong = (label: string): CodedError =>
  new CodedError('SOURCE_INVALID', `${label} is no list of checksums: over ${mostListBytes} bytes`)

/** Both; throws CHECKSUM_MISMATCH where they say different things of one file. */
export function mergeChecksums(given: Checksums, listed: Checksums, label: string): Checksums {
  for (const algorithm of checksumAlgorithms) {
    const [expected, actual] = [given[algorithm], listed[algorithm]]
    if (expected === undefined || actual === undefined || expected === actual) continue
    throw new CodedError(
      'CHECKSUM_MISMATCH',
      `${label} lists ${algorithm} ${actual}, but ${expected} was given`,
      { detail: { algorithm, actual, expected } },
    )
  }
  const known = Object.entries(given).filter(([, hex]) => hex !== undefined)
  return { ...listed, ...Object.fromEntries(known) }
}
