import { ociErrorCodes, type CodeFacts } from './oci-error-codes.ts'

/**
 * Every failure the product can report: the OCI distribution spec's, then requests, sources and
 * images, and the machine.
 */
export const errorCodes = {
  ...ociErrorCodes,

  RANGE_INVALID: {
    status: 416,
    retryable: false,
    meaning:
      'The bytes asked for, or the chunk sent, are not where the blob or the upload is. The answer says where it is.',
  },
  MANIFEST_TOO_LARGE: {
    status: 413,
    retryable: false,
    meaning: 'The manifest is larger than 4 MiB and some room. Put large data into a blob.',
  },
  TAG_INVALID: {
    status: 400,
    retryable: false,
    meaning: 'Not a tag: letters, digits and _ . - are allowed, at most 128 characters.',
  },
  TAG_EXISTS: {
    status: 409,
    retryable: false,
    meaning:
      'The tag points to another image already. Choose another tag, or replace it (`--replace`, `"replace": true`).',
  },
  TAGS_TOO_MANY: {
    status: 414,
    retryable: false,
    meaning:
      'One request sets more tags than the server takes at once. Set the others in another one.',
  },
  TAG_IMMUTABLE: {
    status: 403,
    retryable: false,
    meaning: 'A rule of this registry lets nobody move or delete the tag. Push under another tag.',
  },
  QUOTA_EXCEEDED: {
    status: 403,
    retryable: false,
    meaning:
      'The repository, or all of them together, may not hold more. Delete images, or have the limit raised; the message has both figures.',
  },
  IMAGE_UNKNOWN: {
    status: 404,
    retryable: false,
    meaning: 'There is no such image. `dvcr images` lists what there is.',
  },
  IMPORT_UNKNOWN: {
    status: 404,
    retryable: false,
    meaning: 'There is no such import, or it finished longer ago than imports are kept.',
  },
  IDEMPOTENCY_CONFLICT: {
    status: 409,
    retryable: false,
    meaning: 'The Idempotency-Key was used for another request. Use a new key for a new request.',
  },
  CREDENTIALS_REQUIRED: {
    status: 409,
    retryable: false,
    meaning:
      'The import waits for the credentials of its source, which the process that had them took with it. Give them again (`PUT /v1/imports/{id}/credentials`), or cancel it.',
  },
  REQUEST_INVALID: {
    status: 400,
    retryable: false,
    meaning: 'The request or command line is not understood. The message names the field.',
  },
  MEDIA_TYPE_REFUSED: {
    status: 415,
    retryable: false,
    meaning:
      "The server does not take bodies of that type. Send application/json, application/octet-stream or the manifest's type.",
  },
  HOST_REFUSED: {
    status: 421,
    retryable: false,
    meaning:
      "A server without authentication answers only for this machine's own names. Use localhost or 127.0.0.1.",
  },
  ORIGIN_REFUSED: {
    status: 403,
    retryable: false,
    meaning: 'A web page of another site tried to use the server.',
  },

  SOURCE_INVALID: {
    status: 400,
    retryable: false,
    meaning:
      'The source is not something that can be imported: not http(s), a folder, an answer other than 200, too many redirects, a redirect from https to http.',
  },
  SOURCE_UNAVAILABLE: {
    status: 502,
    retryable: true,
    meaning:
      'The source does not answer: refused, unknown host, time-out, or 5xx. Tried several times; try again later.',
  },
  SOURCE_NOT_FOUND: {
    status: 422,
    retryable: false,
    meaning: 'The source does not exist (404, 410, no such file). Check the address.',
  },
  SOURCE_DENIED: {
    status: 422,
    retryable: false,
    meaning: 'The source needs other credentials or rights.',
  },
  SOURCE_FORBIDDEN: {
    status: 403,
    retryable: false,
    meaning: 'The server may not connect to that address (`--import-policy`).',
  },
  SOURCE_TLS_INVALID: {
    status: 422,
    retryable: false,
    meaning: 'The certificate of the source is not trusted or does not match.',
  },
  SOURCE_TRUNCATED: {
    status: 502,
    retryable: true,
    meaning:
      'The transfer broke before the end and could not be continued from there. Import again.',
  },
  SOURCE_CHANGED: {
    status: 422,
    retryable: false,
    meaning: 'The source became another file while it was read. Import again.',
  },
  CHECKSUM_MISMATCH: {
    status: 422,
    retryable: false,
    meaning:
      'The transferred bytes do not have the expected checksum. Both values are in the message.',
  },
  COMPRESSION_INVALID: {
    status: 422,
    retryable: false,
    meaning: 'The compressed data is damaged, cut off, holds nothing, or other bytes follow it.',
  },
  FORMAT_UNKNOWN: {
    status: 422,
    retryable: false,
    meaning:
      'The bytes are not a disk image: empty, too short, text, or a web page. Check that the address is a direct download.',
  },
  FORMAT_UNSUPPORTED: {
    status: 422,
    retryable: false,
    meaning:
      'The format is known but cannot be imported (yet). The message says how to convert it.',
  },
  IMAGE_UNSAFE: {
    status: 422,
    retryable: false,
    meaning:
      'The image refers to other files, is encrypted, claims two formats, or its tables are not sane.',
  },
  IMAGE_INCOMPLETE: {
    status: 422,
    retryable: false,
    meaning: 'The image ends before the data that its own tables name. Get it again.',
  },
  SIZE_EXCEEDED: {
    status: 413,
    retryable: false,
    meaning:
      'The disk is larger than allowed (`maxVirtualSize`), or its decompression needs more memory or time.',
  },

  TARGET_UNAVAILABLE: {
    status: 502,
    retryable: true,
    meaning:
      'The registry that images are put into does not answer. Is `dvcr serve` running there?',
  },
  UPSTREAM_UNAVAILABLE: {
    status: 502,
    retryable: true,
    meaning:
      'The upstream registry of a mirror does not answer, fails, or sends damaged bytes, and what was asked for is not held here. Try again later.',
  },
  STORAGE_FULL: {
    status: 507,
    retryable: true,
    meaning: 'No space left on the storage. Free space or remove images, then retry.',
  },
  STORE_LOCKED: {
    status: 503,
    retryable: true,
    meaning:
      'Another process owns the folder; the message names it. Use its server (`--server`), or stop it.',
  },
  ARCHIVE_INVALID: {
    status: 422,
    retryable: false,
    meaning:
      'The archive of an import is cut off, damaged, or not one that `dvcr registry export` wrote; nothing was tagged. Import a whole one: what is there already is not stored again.',
  },
  DAMAGE_FOUND: {
    status: 500,
    retryable: false,
    meaning: 'A command has found damage, and named each piece of it and what to do about it.',
  },
  LAYOUT_UNKNOWN: {
    status: 500,
    retryable: false,
    meaning:
      'The folder is not a store of this version. Choose an empty folder, or the version that wrote it.',
  },
  SETTING_INVALID: {
    status: 500,
    retryable: false,
    meaning: 'A setting is wrong; the message names it in every spelling.',
  },
  CANCELLED: { status: 409, retryable: false, meaning: 'It was cancelled or interrupted.' },
  UNAVAILABLE: {
    status: 503,
    retryable: true,
    meaning: 'The server is stopping, or something it needs is missing on this machine.',
  },
  UNKNOWN: { status: 500, retryable: false, meaning: 'A defect of ours; the log has the cause.' },
} as const satisfies Record<string, CodeFacts>

export type ErrorCode = keyof typeof errorCodes
