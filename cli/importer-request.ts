import { CodedError } from '../core/errors.ts'
import { newImportSchema, type NewImport } from '../importer/import-record.ts'
import { importerPrefix, type ImporterSettings } from './importer-settings.ts'
import { readSourceSecrets, type SourceSecrets } from './mounted-secrets.ts'
import type { Terminal } from './terminal.ts'

/** What a pod is to import, with the secrets of its source. */
export interface ImporterRequest {
  readonly request: NewImport
  readonly findLogin: SourceSecrets['findLogin']
}

const noSecrets: SourceSecrets = {
  credentials: undefined,
  ca: undefined,
  findLogin: () => Promise.resolve(undefined),
}

/** Throws SETTING_INVALID naming the variable. */
export async function readImporterRequest(
  settings: ImporterSettings,
  env: Terminal['env'],
): Promise<ImporterRequest> {
  const { sourceCredentials: folder, image, md5, sha1, sha256, sha512 } = settings
  const secrets = folder === undefined ? noSecrets : await readSourceSecrets(folder, env)
  const { credentials, ca, findLogin } = secrets
  const found = newImportSchema.safeParse({
    source: settings.source,
    mirrors: settings.mirrors,
    checksums: { md5, sha1, sha256, sha512 },
    checksumsUrl: settings.checksumsUrl,
    credentials,
    ca,
    insecureSkipVerify: settings.insecureSkipVerify,
    s3Endpoint: settings.s3Endpoint,
    s3Region: settings.s3Region,
    architecture: settings.architecture,
    store: settings.store,
    replace: settings.replace,
    ...image,
  })
  if (found.success) return { request: found.data, findLogin }
  const [issue] = found.error.issues
  throw new CodedError('SETTING_INVALID', `${variableOf(issue?.path ?? [])}: ${issue?.message}`)
}

/** Which variable a field of the request comes from. */
function variableOf(path: readonly PropertyKey[]): string {
  const names = path.filter((part) => typeof part === 'string')
  const [first, last = ''] = [names[0], names.at(-1)]
  if (first === 'ca') return `${importerPrefix}SOURCE_CREDENTIALS, the file ca.crt`
  if (first === 'credentials') {
    const file = names[1] === undefined ? '' : `, the file ${names[1]}`
    return `${importerPrefix}SOURCE_CREDENTIALS${file}`
  }
  return importerPrefix + last.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()
}
