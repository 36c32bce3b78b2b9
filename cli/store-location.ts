import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { CodedError } from '../core/errors.ts'
import type { RedirectPolicy } from '../registry/redirect.ts'
import { createStore, openStore, type Store, type StoreDeps } from '../registry/store.ts'
import type { ServeSettings } from './serve-settings.ts'

type LocationSettings = Pick<
  ServeSettings,
  'data' | 's3Endpoint' | 's3Region' | 's3PathStyle' | 's3PublicEndpoint' | 's3Ca' | 's3Redirect'
>

/** The bucket and the prefix in it; `undefined` for a folder. Throws SETTING_INVALID. */
function parseBucket(
  data: string,
): { readonly bucket: string; readonly prefix: string } | undefined {
  if (!data.startsWith('s3:')) return undefined
  const [, bucket, prefix = ''] = /^s3:\/\/([a-z0-9][a-z0-9.-]+)(?:\/(.*?))?\/*$/.exec(data) ?? []
  if (bucket !== undefined && /^[A-Za-z0-9._/-]*$/.test(prefix)) return { bucket, prefix }
  throw new CodedError(
    'SETTING_INVALID',
    `data (--data, DVCR_DATA): not a bucket: ${JSON.stringify(data)}; write s3://bucket or s3://bucket/prefix`,
  )
}

/** Where the data is, for people. */
export function placeOf(data: string): string {
  return parseBucket(data) ? data : resolve(data)
}

/** Where credentials of imports are kept: beside their records, if those are files. */
export function secretsFolderOf(data: string): string | undefined {
  return parseBucket(data) ? undefined : resolve(data, 'v1/imports-secrets')
}

/** Opens the folder or the bucket that `settings.data` names. */
export async function openStoreAt(
  settings: LocationSettings,
  deps: Omit<StoreDeps, 'redirect'>,
): Promise<Store> {
  const { data, s3Endpoint, s3Region, s3PathStyle, s3PublicEndpoint, s3Ca, s3Redirect } = settings
  const place = parseBucket(data)
  if (!place) return openStore(data, deps)
  // The SDK is large: only who keeps data in a bucket loads it.
  const { openS3Store } = await import('../registry/stores/s3.ts')
  const storage = await openS3Store({
    ...place,
    endpoint: s3Endpoint,
    region: s3Region,
    pathStyle: s3PathStyle,
    publicEndpoint: s3PublicEndpoint,
    ca: s3Ca === undefined ? undefined : await readFile(s3Ca, 'utf8'),
  })
  const outside = s3PublicEndpoint ?? s3Endpoint
  const isPublic = outside === s3PublicEndpoint || outside?.startsWith('https:') === true
  const redirect: RedirectPolicy = { mode: s3Redirect, isPublic }
  return createStore(storage, { ...deps, redirect })
}
