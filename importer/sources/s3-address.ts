import { CodedError } from '../../core/errors.ts'
import type { Credentials } from './credentials.ts'
import { parseHttpUrl } from './http-request.ts'
import type { WebAddress } from './web-content.ts'

export const s3Scheme = 's3://'

/** An object in a bucket. */
export interface S3Address {
  readonly address: WebAddress
  /** Of the server, as in a URL. */
  readonly host: string
  /** The last part of its key. */
  readonly fileName: string
}

/** So long an address that is signed can be asked for: longer than any one answer takes to begin. */
const signedForS = 3600

/**
 * `s3://bucket/key[?versionId=…]`, the key as it is. It is asked for by addresses that are signed with
 * the caller's credentials, or without any: never with those of this process. `endpoint`: a server
 * other than AWS. Throws SOURCE_INVALID.
 */
export function parseS3Address(
  text: string,
  { endpoint, region = 'us-east-1' }: { readonly endpoint?: string; readonly region?: string },
  credentials: Credentials = {},
): S3Address {
  const [, bucket = '', key = '', versionId] =
    /^s3:\/\/([a-z0-9][a-z0-9.-]{1,62})\/(.+?)(?:\?versionId=([^?&#]+))?$/s.exec(text) ?? []
  const isPath = key !== '' && !/(?:^|\/)\.{1,2}(?:\/|$)/.test(key)
  if (!isPath) {
    throw new CodedError(
      'SOURCE_INVALID',
      `not an object in a bucket: ${JSON.stringify(text.slice(0, 200))}; expected s3://bucket/key`,
    )
  }
  const { user, password, token, headers } = credentials
  if (headers !== undefined || (user === undefined) !== (password === undefined)) {
    throw new CodedError(
      'SOURCE_INVALID',
      'a bucket takes an access key id as user and its key as password, or nothing',
    )
  }
  const server = parseHttpUrl(endpoint ?? `https://s3.${region}.amazonaws.com`)
  if (server.username !== '' || server.password !== '' || server.search !== '') {
    throw new CodedError('SOURCE_INVALID', 'the address of an S3 server is only scheme and host')
  }
  const isAws = /\.amazonaws\.com(?:\.cn)?$/.test(server.hostname)

  async function signed(): Promise<URL> {
    const [{ GetObjectCommand, S3Client }, { getSignedUrl }] = await Promise.all([
      import('@aws-sdk/client-s3'),
      import('@aws-sdk/s3-request-presigner'),
    ])
    const client = new S3Client({
      endpoint: server.href,
      region,
      forcePathStyle: !isAws,
      credentials: {
        accessKeyId: user ?? 'nobody',
        secretAccessKey: password ?? 'nothing',
        ...(token === undefined ? {} : { sessionToken: token }),
      },
      // All that would else be looked for in the environment and the files of this process.
      defaultsMode: 'standard',
      useDualstackEndpoint: false,
      useFipsEndpoint: false,
      useArnRegion: false,
      disableMultiregionAccessPoints: true,
      disableS3ExpressSessionAuth: true,
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
    })
    try {
      const object = { Bucket: bucket, Key: key, VersionId: versionId }
      const url = new URL(
        await getSignedUrl(client, new GetObjectCommand(object), { expiresIn: signedForS }),
      )
      if (user === undefined) url.search = versionId === undefined ? '' : `versionId=${versionId}`
      return url
    } finally {
      client.destroy()
    }
  }

  return {
    address: {
      label: `${s3Scheme}${bucket}/${key}`,
      start: async () => ({ url: await signed(), credentials: {} }),
    },
    host: server.hostname,
    fileName: key.slice(key.lastIndexOf('/') + 1),
  }
}
