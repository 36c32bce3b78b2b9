import { X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createSecureContext, type SecureContextOptions, type Server } from 'node:tls'
import { CodedError } from '../../core/errors.ts'
import type { Log } from '../../core/log.ts'

/** Paths of PEM files. */
export interface TlsFiles {
  /** The server's certificate, then those between it and the root. */
  readonly cert: string
  readonly key: string
  /** Who signs the certificates of clients; undefined: clients are not asked for any. */
  readonly clientCa: string | undefined
}

export interface TlsOptions {
  readonly log: Log
  /**
   * `required`: a client without a certificate of `clientCa` is refused in the handshake.
   * `offered`: it may do without; whoever authenticates looks at `socket.authorized`.
   */
  readonly clientCertificates: 'required' | 'offered'
  /** How often the files are looked at; ten seconds unless said. */
  readonly checkMs?: number
}

/** Certificate and key of the servers, new ones as soon as the files have them. */
export interface ServerTls extends Disposable {
  /** For a server that is made now. */
  options(): SecureContextOptions & {
    readonly requestCert: boolean
    readonly rejectUnauthorized: boolean
  }
  /** From now on that server gets what the files say. */
  attach(server: Pick<Server, 'setSecureContext'>): void
  /** Reads the files; a pair that does not work is logged, and the old one stays. */
  reload(): Promise<void>
  /** When the certificate ends, as Unix time in seconds. */
  expiresAtS(): number
}

interface Material {
  readonly context: SecureContextOptions
  readonly expiresAtS: number
}

const warnBeforeMs = 7 * 24 * 60 * 60 * 1000

/**
 * Reads the files and watches them: what renews certificates writes files and tells nobody.
 * Throws SETTING_INVALID where they do not work together.
 */
export async function openTls(
  files: TlsFiles,
  { log, clientCertificates, checkMs = 10_000 }: TlsOptions,
): Promise<ServerTls> {
  const servers = new Set<Pick<Server, 'setSecureContext'>>()
  let seen = await readTexts(files)
  let material = load(files, seen)
  let failure: string | undefined
  warnOfExpiry()

  function warnOfExpiry(): void {
    const expires = new Date(material.expiresAtS * 1000).toISOString()
    if (material.expiresAtS * 1000 > Date.now() + warnBeforeMs) return
    log.warn({ cert: files.cert, expires }, 'the TLS certificate expires soon or has expired')
  }

  async function reload(): Promise<void> {
    try {
      const texts = await readTexts(files)
      if (texts.join() === seen.join()) return
      seen = texts
      material = load(files, texts)
      for (const server of servers) server.setSecureContext(material.context)
      log.info({ cert: files.cert, expiresAtS: material.expiresAtS }, 'TLS certificate reloaded')
      failure = undefined
      warnOfExpiry()
    } catch (error) {
      // Said once, not at every look.
      if (failure === why(error)) return
      failure = why(error)
      log.error({ err: error }, 'the new TLS files do not work; the old ones stay in use')
    }
  }

  const watching = setInterval(() => void reload(), checkMs)
  watching.unref()
  return {
    options: () => ({
      ...material.context,
      requestCert: files.clientCa !== undefined,
      rejectUnauthorized: files.clientCa !== undefined && clientCertificates === 'required',
    }),
    attach: (server) => void servers.add(server),
    reload,
    expiresAtS: () => material.expiresAtS,
    [Symbol.dispose]: () => clearInterval(watching),
  }
}

async function readTexts({ cert, key, clientCa }: TlsFiles): Promise<string[]> {
  const paths = clientCa === undefined ? [cert, key] : [cert, key, clientCa]
  return Promise.all(
    paths.map((path) =>
      readFile(path, 'utf8').catch((error: unknown) => {
        throw new CodedError('SETTING_INVALID', `cannot read the TLS file ${path}: ${why(error)}`, {
          cause: error,
        })
      }),
    ),
  )
}

function load(files: TlsFiles, [cert = '', key = '', ca]: readonly string[]): Material {
  const context: SecureContextOptions = {
    cert,
    key,
    minVersion: 'TLSv1.2',
    ...(ca === undefined ? {} : { ca }),
  }
  try {
    createSecureContext(context)
    return { context, expiresAtS: Math.floor(Date.parse(new X509Certificate(cert).validTo) / 1000) }
  } catch (error) {
    const names = Object.values(files).filter((path) => path !== undefined)
    throw new CodedError(
      'SETTING_INVALID',
      `the TLS files ${names.join(', ')} do not work together: ${why(error)}; expected PEM, the key of the first certificate, and no passphrase`,
      { cause: error },
    )
  }
}

const why = (error: unknown): string => (error instanceof Error ? error.message : String(error))
