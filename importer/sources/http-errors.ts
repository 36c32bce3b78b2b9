import { CodedError } from '../../core/errors.ts'

/** What an HTTP answer other than 200 means for an import. */
export function httpStatusError(status: number, label: string): CodedError {
  if (status === 404 || status === 410) {
    return new CodedError('SOURCE_NOT_FOUND', `${label} answered ${status}: check the address`)
  }
  if (status === 401 || status === 403) {
    return new CodedError(
      'SOURCE_DENIED',
      `${label} answered ${status}: it needs other credentials (credentials of the request; --user and --password-file, or --token-file, of the command)`,
    )
  }
  if (status >= 500 || status === 429 || status === 408) {
    return new CodedError('SOURCE_UNAVAILABLE', `${label} answered ${status}; try again later`)
  }
  return new CodedError('SOURCE_INVALID', `${label} answered ${status}; expected 200`)
}

const meanings: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused: nothing listens there',
  ENOTFOUND: 'the host name is unknown (DNS)',
  EAI_AGAIN: 'the name server did not answer (DNS)',
  ECONNRESET: 'the connection was reset',
  EHOSTUNREACH: 'the host cannot be reached',
  ENETUNREACH: 'the network cannot be reached',
  UND_ERR_CONNECT_TIMEOUT: 'no connection within the time limit',
  UND_ERR_HEADERS_TIMEOUT: 'no answer within the time limit',
  UND_ERR_BODY_TIMEOUT: 'no bytes within the time limit',
  UND_ERR_SOCKET: 'the server closed the connection',
}

/** A failed connection in our words. A bad certificate is permanent, the rest is worth a retry. */
export function connectionError(error: unknown, label: string): CodedError {
  // Of the policy for addresses.
  if (error instanceof CodedError) return error
  const code = errorCode(error)
  if (isTlsCode(code)) {
    return new CodedError(
      'SOURCE_TLS_INVALID',
      `cannot trust ${label}: ${code}; its certificate is not signed by a known authority or does not match`,
      { cause: error },
    )
  }
  // Only its text says what a proxy has answered.
  const isProxys = code === 'UND_ERR_ABORTED' || code === 'UND_ERR_INVALID_ARG'
  const text = error instanceof Error ? error.message : String(error)
  const why = meanings[code] ?? (code === '' || isProxys ? text : code)
  return new CodedError('SOURCE_UNAVAILABLE', `cannot read ${label}: ${why}`, { cause: error })
}

/** The code of the error or of the first cause that has one. */
function errorCode(error: unknown): string {
  for (let at = error; at instanceof Error; at = at.cause) {
    if ('code' in at && typeof at.code === 'string') return at.code
    if (at instanceof AggregateError) return errorCode(at.errors[0])
  }
  return ''
}

function isTlsCode(code: string): boolean {
  return (
    /^(?:CERT_|ERR_TLS_|ERR_SSL_|EPROTO$)/.test(code) ||
    /(?:_CERT|_CERT_IN_CHAIN|_SIGNATURE|_ISSUER_CERT_LOCALLY)$/.test(code)
  )
}
