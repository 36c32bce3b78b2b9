import {
  checkNewImport,
  newImportRecord,
  separateSecrets,
  type NewImport,
  type StoredImport,
} from './import-record.ts'
import type { AddressPolicy } from './sources/address-policy.ts'
import type { Credentials } from './sources/credentials.ts'

/** What is asked for, as it is kept, and what of it is not. */
export interface PreparedImport {
  readonly stored: StoredImport
  readonly credentials: Credentials | undefined
}

/**
 * A request to import, checked as far as it can be without the source. Throws NAME_INVALID,
 * TAG_INVALID, SOURCE_INVALID, SOURCE_FORBIDDEN.
 */
export function prepareImport(
  asked: NewImport,
  {
    idempotencyKey,
    runner,
    policy,
  }: {
    readonly idempotencyKey: string | undefined
    readonly runner: string | undefined
    readonly policy: AddressPolicy | undefined
  },
): PreparedImport {
  const { request, credentials } = separateSecrets(asked)
  const { label, hosts } = checkNewImport(request, credentials)
  for (const host of hosts) policy?.requireHost(host)
  const stored: StoredImport = {
    record: newImportRecord(label, request),
    request,
    ...(credentials && { needsCredentials: true }),
    ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
    ...(runner === undefined ? {} : { runner }),
  }
  return { stored, credentials }
}
