/** What a code means to HTTP clients (`status`), to retry loops and to people (`docs/errors.md`). */
export interface CodeFacts {
  readonly status: number
  readonly retryable: boolean
  /** What happened, and what to do. */
  readonly meaning: string
}

/** The OCI distribution spec's list. @see OCI distribution-spec §error-codes */
export const ociErrorCodes = {
  BLOB_UNKNOWN: {
    status: 404,
    retryable: false,
    meaning:
      'The repository has no blob with that digest. Push the blob, or check name and digest.',
  },
  BLOB_UPLOAD_INVALID: {
    status: 400,
    retryable: false,
    meaning:
      'The upload request does not fit the session. Ask the session for its offset and go on from there.',
  },
  BLOB_UPLOAD_UNKNOWN: {
    status: 404,
    retryable: false,
    meaning:
      'The upload session does not exist, was committed, cancelled, or idle too long. Start a new one.',
  },
  DIGEST_INVALID: {
    status: 400,
    retryable: false,
    meaning:
      'The digest is malformed, or the bytes do not have it. Send the bytes again; if it stays, the client or the way there damages them.',
  },
  MANIFEST_BLOB_UNKNOWN: {
    status: 404,
    retryable: false,
    meaning: 'The manifest names a blob that the repository does not have. Push its blobs first.',
  },
  MANIFEST_INVALID: {
    status: 400,
    retryable: false,
    meaning: 'The manifest is not JSON of its media type. The message says where.',
  },
  MANIFEST_UNKNOWN: {
    status: 404,
    retryable: false,
    meaning: 'The repository has no manifest by that tag or digest.',
  },
  NAME_INVALID: {
    status: 400,
    retryable: false,
    meaning:
      'Not a repository name: lower-case letters, digits and . _ - / are allowed, at most 255 characters.',
  },
  NAME_UNKNOWN: { status: 404, retryable: false, meaning: 'The registry has no such repository.' },
  SIZE_INVALID: {
    status: 400,
    retryable: false,
    meaning:
      'The length sent differs from the length declared, or a manifest is larger than the limit.',
  },
  UNAUTHORIZED: {
    status: 401,
    retryable: false,
    meaning:
      'Credentials are needed, or those shown are wrong, have expired, or are for something else. Log in: `dvcr login`.',
  },
  DENIED: {
    status: 403,
    retryable: false,
    meaning:
      'The credentials do not allow this, or the request comes from a page or host that may not use the server.',
  },
  UNSUPPORTED: { status: 405, retryable: false, meaning: 'The server does not do this.' },
  TOOMANYREQUESTS: {
    status: 429,
    retryable: true,
    meaning: 'Too many requests at once. Try again after the time in Retry-After.',
  },
} as const satisfies Record<string, CodeFacts>
