import { CodedError } from '../../core/errors.ts'
import type { Storage } from '../data-store.ts'
import { claimLayout, layoutKey } from '../layout.ts'
import { createS3, patience, type Patience, type S3, type S3Settings } from './s3-client.ts'
import { createS3Data } from './s3-data.ts'
import { isSettingFault } from './s3-errors.ts'
import { s3Limits, type S3Limits } from './s3-limits.ts'
import { createS3Objects, listPages } from './s3-objects.ts'
import { probeFolder, probeS3 } from './s3-probe.ts'
import { createS3Reader } from './s3-read.ts'

export interface S3StoreOptions {
  readonly patience?: Patience
  readonly limits?: S3Limits
}

/**
 * Opens a bucket, or a prefix of one, which any number of processes may share. Throws
 * SETTING_INVALID where it cannot be reached as set or cannot keep data safely, LAYOUT_UNKNOWN where
 * it holds something else, UNAVAILABLE where it does not answer.
 */
export async function openS3Store(
  settings: S3Settings,
  { patience: limits = patience, limits: sizes = s3Limits }: S3StoreOptions = {},
): Promise<Storage> {
  const s3 = createS3(settings, limits)
  const reader = createS3Reader(s3, settings)
  const place = `s3://${settings.bucket}${settings.prefix === '' ? '' : `/${settings.prefix}`}`
  async function close(): Promise<void> {
    await reader[Symbol.asyncDispose]()
    s3[Symbol.dispose]()
  }
  try {
    const isNew = await isEmpty(s3, place)
    const objects = createS3Objects(s3, await probeS3(s3, { reader, isNew }))
    await claimLayout(objects, place)
    return {
      objects,
      data: createS3Data(s3, { reader, limits: sizes }),
      files: undefined,
      isOwned: false,
      [Symbol.asyncDispose]: close,
    }
  } catch (error) {
    await close()
    throw asSetting(error, settings, place)
  }
}

/** False where there is a store already; throws where there is something else. */
async function isEmpty(s3: S3, place: string): Promise<boolean> {
  const names: string[] = []
  for await (const { Contents = [], CommonPrefixes = [] } of listPages(s3, '', {
    delimiter: '/',
  })) {
    for (const { Key = '' } of Contents) names.push(s3.keyOf(Key))
    for (const { Prefix = '' } of CommonPrefixes) names.push(s3.keyOf(Prefix))
  }
  if (names.includes(layoutKey)) return false
  const foreign = names.find((name) => name !== probeFolder)
  if (foreign === undefined) return true
  throw new CodedError(
    'LAYOUT_UNKNOWN',
    `cannot keep data in ${place}: it holds other objects (${foreign}, …); name an empty bucket or prefix`,
  )
}

/** At the start what settings can cause is their fault. */
function asSetting(error: unknown, settings: S3Settings, place: string): unknown {
  if (!(error instanceof CodedError)) return error
  const { cause } = error
  const isUnknownHost = cause instanceof Error && 'code' in cause && cause.code === 'ENOTFOUND'
  if (!isUnknownHost && !isSettingFault(error)) return error
  const hint =
    isUnknownHost && settings.pathStyle === false
      ? '; where the server has no host name per bucket: --s3-path-style (DVCR_S3_PATH_STYLE)'
      : ''
  return new CodedError('SETTING_INVALID', `cannot use ${place}: ${error.message}${hint}`, {
    cause,
  })
}
