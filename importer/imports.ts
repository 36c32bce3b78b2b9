import { CodedError } from '../core/errors.ts'
import type { KeptRequest, NewImport, ImportRecord, StoredImport } from './import-record.ts'
import type { Credentials } from './sources/credentials.ts'

export interface CreateImportOptions {
  /** The same key with the same request answers the import that is there. */
  readonly idempotencyKey: string | undefined
  /** Whose images may be used instead of a transfer of the same bytes; nobody's unless given. */
  readonly mayPull?: (name: string) => boolean
}

export interface ListImportsOptions {
  readonly state?: ImportRecord['state'] | undefined
  readonly name?: string | undefined
  readonly limit?: number | undefined
}

/** The imports of a server: its own, or another one's over HTTP. */
export interface Imports {
  /**
   * Queues an import. Throws NAME_INVALID, TAG_INVALID, SOURCE_INVALID, TAG_EXISTS,
   * IDEMPOTENCY_CONFLICT, TOOMANYREQUESTS.
   */
  create(request: NewImport, options: CreateImportOptions): Promise<ImportRecord>
  /** Newest first. */
  list(options: ListImportsOptions): Promise<ImportRecord[]>
  /** Throws IMPORT_UNKNOWN. */
  get(id: string): Promise<ImportRecord>
  /** The record now, then as it changes (a few times a second at most), until it is finished. */
  watch(id: string, options: { readonly signal: AbortSignal }): AsyncIterable<ImportRecord>
  /** Stops it; a finished import stays as it is. Throws IMPORT_UNKNOWN. */
  cancel(id: string): Promise<ImportRecord>
  /** Holds it until `retry`; a finished import stays as it is. Throws IMPORT_UNKNOWN. */
  pause(id: string): Promise<ImportRecord>
  /**
   * Queues it again where it is paused, failed or cancelled; others stay as they are. What was
   * transferred before a pause, or before a failure that may pass, is not transferred again where it
   * could be written down. Throws IMPORT_UNKNOWN, TAG_EXISTS, TOOMANYREQUESTS.
   */
  retry(id: string): Promise<ImportRecord>
  /**
   * Lets an import go on that waits for them (CREDENTIALS_REQUIRED); others stay as they are. Throws
   * IMPORT_UNKNOWN, SOURCE_INVALID.
   */
  giveCredentials(id: string, credentials: Credentials): Promise<ImportRecord>
}

/** Imports of this process, with what a process that shares their records needs. */
export interface ImportQueue extends Imports, AsyncDisposable {
  /** Ids of those that are not finished. */
  unfinished(): string[]
  /** Runs an import that another process has left; it is this one's in the records already. */
  adopt(stored: StoredImport): Promise<void>
  /** Stops an import that another process has taken; its record is no longer this one's to write. */
  abandon(id: string): Promise<void>
  /** Writes the records of running imports with how far they are. */
  keepProgress(): Promise<void>
}

/** What `list` answers of all `records`. */
export function selectImports(
  records: readonly ImportRecord[],
  { state, name, limit = 100 }: ListImportsOptions,
): ImportRecord[] {
  return records
    .filter((record) => state === undefined || record.state === state)
    .filter((record) => name === undefined || record.name === name)
    .toSorted((a, b) => b.createdAt.localeCompare(a.createdAt))
    .slice(0, limit)
}

/** Throws IDEMPOTENCY_CONFLICT unless a key that was used is used for the same request. */
export function requireSame(
  { record: { id }, request: known }: StoredImport,
  request: KeptRequest,
  idempotencyKey: string | undefined,
): void {
  if (JSON.stringify(known) === JSON.stringify(request)) return
  throw new CodedError(
    'IDEMPOTENCY_CONFLICT',
    `Idempotency-Key ${JSON.stringify(idempotencyKey)} was used for another request; use a new key`,
    { detail: { id } },
  )
}
