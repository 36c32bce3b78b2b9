import { z } from 'zod'
import type { Login } from '../../core/docker-config.ts'
import { CodedError } from '../../core/errors.ts'

const mostHeaders = 32
const mostHeaderBytes = 16 * 1024

/** What would change what is asked for, or belongs to the connection. @see RFC 9110 §7.6.1 */
const refusedHeader =
  /^(?:host|range|if-.*|connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|http2-settings|content-.*|expect|accept-encoding)$/

const text = (most: number) =>
  z
    .string()
    .min(1)
    .max(most)
    // oxlint-disable-next-line no-control-regex -- they are what is refused
    .regex(/^[^\u0000-\u001f\u007f]*$/, 'expected no control characters')

const headers = z
  .record(
    z
      .string()
      .max(256)
      .regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/, 'not a header name')
      .toLowerCase()
      .refine((name) => !refusedHeader.test(name), 'not a header that a request may set'),
    z.string().regex(/^[\t\x20-\x7e\x80-\xff]*$/, 'not a header value'),
  )
  .refine((all) => Object.keys(all).length <= mostHeaders, `more than ${mostHeaders} headers`)
  .refine(
    (all) => Object.entries(all).flat().join('').length <= mostHeaderBytes,
    `more than ${mostHeaderBytes} bytes of headers`,
  )

/**
 * Who we are to a source: all of it secret. Sent to the server that the source names, and to no other
 * one that it redirects to.
 */
export const credentialsSchema = z
  .strictObject({
    user: text(1024).optional().describe('http(s)://, docker://: name; s3://: access key id'),
    password: text(16_384)
      .optional()
      .describe('http(s)://, docker://: password; s3://: secret access key'),
    token: text(16_384)
      .regex(/^[\x21-\x7e]*$/, 'expected no spaces')
      .optional()
      .describe('http(s)://: bearer token; docker://: identity token; s3://: session token'),
    headers: headers.optional().describe('http(s)://: more headers of each request'),
  })
  .refine(({ user, password }) => password === undefined || user !== undefined, {
    message: 'a password needs a user',
  })
  .describe('Who we are to the source. Kept only as long as the import needs it, never shown.')
export type Credentials = z.output<typeof credentialsSchema>

/**
 * The address without its user info, and that as credentials. Throws SOURCE_INVALID where it is not
 * percent-encoded, or `given` says it too.
 */
export function separateUserInfo(
  source: string,
  given: Credentials | undefined,
): { readonly source: string; readonly credentials: Credentials | undefined } {
  // As the parser of addresses takes them out, wherever they are.
  const text = source.replaceAll(/[\t\n\r]/g, '')
  const url = /^https?:/i.test(text) ? URL.parse(text) : null
  if (!url || (url.username === '' && url.password === '')) {
    return { source: text, credentials: given }
  }
  if (given?.user !== undefined || given?.token !== undefined) {
    throw new CodedError('SOURCE_INVALID', 'the source has user info; give credentials only once')
  }
  // Not as the parser writes it: how an address is written is judged later.
  const bare = text.replace(/^(https?:[\\/]*)[^/?#\\]*@/i, '$1')
  const [user, password] = [decoded(url.username), decoded(url.password)]
  const found = credentialsSchema.safeParse({
    ...given,
    user: user === '' ? undefined : user,
    password: password === '' ? undefined : password,
  })
  if (!found.success || user === '') {
    throw new CodedError('SOURCE_INVALID', 'the user info of the source is not a name and password')
  }
  return { source: bare, credentials: found.data }
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch (error) {
    throw new CodedError(
      'SOURCE_INVALID',
      'cannot send the user info of the source: write % in it as %25',
      { cause: error },
    )
  }
}

/** As headers of a request to a web server. Throws SOURCE_INVALID for what cannot be sent as such. */
export function headersOf({
  user,
  password = '',
  token,
  headers = {},
}: Credentials): Record<string, string> {
  if (user !== undefined && token !== undefined) {
    throw new CodedError('SOURCE_INVALID', 'a web server takes a user or a token, not both')
  }
  if (user?.includes(':')) {
    throw new CodedError('SOURCE_INVALID', 'the name of a user has no colon')
  }
  const basic = user && `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`
  const authorization = basic ?? (token === undefined ? undefined : `Bearer ${token}`)
  return { ...headers, ...(authorization === undefined ? {} : { authorization }) }
}

/** As a login to a registry; throws SOURCE_INVALID for what none takes. */
export function loginOf({ user, password, token, headers }: Credentials): Login | undefined {
  if (headers !== undefined) {
    throw new CodedError('SOURCE_INVALID', 'a registry takes no headers; give a user or a token')
  }
  if (token !== undefined && user === undefined) return { kind: 'identity', token }
  if (user === undefined) return undefined
  if (password !== undefined && token === undefined) return { kind: 'password', user, password }
  throw new CodedError('SOURCE_INVALID', 'a registry takes a user with a password, or a token')
}
