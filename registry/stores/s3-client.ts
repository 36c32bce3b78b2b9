import { Agent as HttpAgent } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import { getCACertificates } from 'node:tls'
import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3'
import { retried } from '../../core/retry.ts'
import { isPassing, NoAnswerError, toStorageError } from './s3-errors.ts'
import { checkKey } from './storage-key.ts'

/** Where a store on S3 is. Credentials come from where the AWS SDK looks for them. */
export interface S3Settings {
  readonly bucket: string
  /** What all keys begin with, without slashes at its ends; empty: the whole bucket. */
  readonly prefix: string
  /** URL of an S3-compatible server; without it AWS. */
  readonly endpoint?: string | undefined
  readonly region?: string | undefined
  /** `endpoint/bucket/key` rather than `bucket.endpoint/key`; by default with an `endpoint`. */
  readonly pathStyle?: boolean | undefined
  /** Certificates trusted besides the system's, PEM. */
  readonly ca?: string | undefined
  /** URL of the same server as clients outside see it, for redirects. */
  readonly publicEndpoint?: string | undefined
}

/** Patience with a storage that fails. */
export interface Patience {
  /** A small request may take so long, a large one be without progress. */
  readonly idleMs: number
  /** Putting ten thousand parts together may take S3 minutes without a byte. */
  readonly completingMs: number
  /** Waits between attempts; each is varied by half. */
  readonly retryDelaysMs: readonly number[]
  /** So long after the first failure no further attempt begins. */
  readonly givingUpMs: number
}

export const patience: Patience = {
  idleMs: 20_000,
  completingMs: 15 * 60 * 1000,
  retryDelaysMs: [100, 300, 900, 2_000, 4_000, 4_000, 4_000],
  givingUpMs: 30_000,
}

/** One attempt of a request; goes to `S3Client.send` as its options. */
export interface Attempt {
  readonly abortSignal: AbortSignal
  /** An earlier attempt may have been carried out although its answer was lost. */
  readonly isRepeat: boolean
  /** Bytes move: the time limit starts again. */
  alive(): void
  /** Ends the attempt with that reason. */
  fail(reason: unknown): void
}

export interface CallOptions {
  readonly idleMs?: number
  readonly signal?: AbortSignal
}

/** One bucket, and how it is asked. */
export interface S3 extends Disposable {
  readonly client: S3Client
  readonly patience: Patience
  readonly bucket: string
  /** Not one of the servers that speak the same protocol. */
  readonly isAws: boolean
  /** `Bucket` and `Key` for one of our keys. */
  place(key: string): { readonly Bucket: string; readonly Key: string }
  /** The bucket's key of one of ours, or the start of one. */
  objectKey(key: string): string
  /** Our key of one of the bucket's. */
  keyOf(objectKey: string): string
  /**
   * The first attempt that succeeds. What may pass is tried again, for less than a minute after
   * the first failure; then throws UNAVAILABLE, STORAGE_FULL or UNKNOWN. What `attempt` catches
   * itself is an answer. `doing` completes "cannot …".
   */
  call<T>(
    doing: string,
    attempt: (options: Attempt) => Promise<T>,
    options?: CallOptions,
  ): Promise<T>
}

const never = new AbortController().signal
const ignore = (): void => {}

export function createS3(settings: S3Settings, limits: Patience): S3 {
  const client = new S3Client(clientConfig(settings, settings.endpoint))
  const root = settings.prefix === '' ? '' : `${settings.prefix}/`
  return {
    client,
    patience: limits,
    bucket: settings.bucket,
    isAws:
      settings.endpoint === undefined || /\.amazonaws\.com(?:\.cn)?\/?$/.test(settings.endpoint),
    place: (key) => ({ Bucket: settings.bucket, Key: root + checkKey(key) }),
    objectKey: (key) => root + key,
    keyOf: (objectKey) => objectKey.slice(root.length),
    async call(doing, attempt, { idleMs = limits.idleMs, signal = never } = {}) {
      let isRepeat = false
      let failedAt: number | undefined
      const shouldRetry = (error: unknown): boolean => {
        failedAt ??= performance.now()
        return isPassing(error) && performance.now() - failedAt < limits.givingUpMs
      }
      try {
        return await retried(
          async () => {
            try {
              return await limited(attempt, { isRepeat, idleMs, signal })
            } finally {
              isRepeat = true
            }
          },
          { delaysMs: limits.retryDelaysMs.map(varied), signal, shouldRetry },
        )
      } catch (error) {
        signal.throwIfAborted()
        throw toStorageError(error, doing)
      }
    },
    [Symbol.dispose]: () => client.destroy(),
  }
}

/** Many clients that were refused at once must not all come back at once. */
const varied = (delayMs: number): number => delayMs * (0.5 + Math.random())

async function limited<T>(
  attempt: (options: Attempt) => Promise<T>,
  options: { readonly isRepeat: boolean; readonly idleMs: number; readonly signal: AbortSignal },
): Promise<T> {
  const { isRepeat, idleMs, signal } = options
  const ending = new AbortController()
  const fail = (reason: unknown): void => ending.abort(reason)
  const onAbort = (): void => fail(signal.reason)
  if (signal.aborted) onAbort()
  signal.addEventListener('abort', onAbort)
  const timer = setTimeout(() => fail(new NoAnswerError(`no answer for ${idleMs} ms`)), idleMs)
  try {
    const abortSignal = ending.signal
    return await attempt({ abortSignal, isRepeat, alive: () => void timer.refresh(), fail })
  } catch (error) {
    ending.signal.throwIfAborted()
    throw error
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', onAbort)
  }
}

/** `endpoint` is that of the settings, or the one that clients outside use. */
export function clientConfig(
  { region, endpoint: configured, pathStyle, ca }: S3Settings,
  endpoint: string | undefined,
): S3ClientConfig {
  // Servers other than AWS have no regions and accept this one.
  const usedRegion = region ?? (configured === undefined ? undefined : 'us-east-1')
  return {
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(usedRegion === undefined ? {} : { region: usedRegion }),
    forcePathStyle: pathStyle ?? configured !== undefined,
    // `call` tries again: only there is known what an answer that was lost means.
    maxAttempts: 1,
    // Checksums that S3 does not demand would read every part once more.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // Failures are reported by whoever gives up; the SDK would write to standard error.
    logger: { debug: ignore, info: ignore, warn: ignore, error: ignore },
    // It would take a new connection for every part.
    expectContinueHeader: false,
    requestHandler: {
      connectionTimeout: 5_000,
      httpAgent: new HttpAgent({ keepAlive: true }),
      httpsAgent: new HttpsAgent({ keepAlive: true, ...trust(ca) }),
    },
  }
}

/** TLS options that trust `ca` besides what this machine trusts. */
export function trust(ca: string | undefined): { readonly ca?: string[] } {
  return ca === undefined ? {} : { ca: [...getCACertificates('default'), ca] }
}
