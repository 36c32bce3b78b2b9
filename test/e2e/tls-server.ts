import { execa } from 'execa'
import { connect, type ClientHttp2Session } from 'node:http2'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { CertifiedKey } from '../fixtures/certificates.ts'
import { freePort } from '../fixtures/ports.ts'
import { startProgram, type RunningProgram } from '../fixtures/program.ts'

const dvcrProgram = join(import.meta.dirname, '../../bin/dvcr')

/** The versions of HTTP that a server with TLS speaks, as curl and ALPN name them. */
export type HttpVersion = '1.1' | '2'

export interface CurlAnswer {
  /** 0 where there was no answer. */
  readonly status: number
  readonly version: string
  readonly body: string
  readonly uploaded: number
  /** Of curl itself: 0 where the transfer was complete. */
  readonly exitCode: number | undefined
}

/** `dvcr serve` with TLS. */
export interface TlsServer extends RunningProgram {
  readonly url: string
  /** Runs curl, which trusts the authority of the server only. */
  curl(version: HttpVersion, args: readonly string[]): Promise<CurlAnswer>
  /** An HTTP/2 connection; the caller ends it. */
  connect(): Promise<ClientHttp2Session>
}

/** Starts a server with that certificate and waits until it answers. */
export async function startTlsServer(options: {
  readonly data: string
  readonly ca: string
  readonly files: CertifiedKey
  readonly args?: readonly string[]
  /** What the first requests show where the server asks for certificates. */
  readonly client?: CertifiedKey
}): Promise<TlsServer> {
  const { data, ca, files, client } = options
  const host = `127.0.0.1:${await freePort()}`
  const url = `https://${host}`
  const tls = ['--tls-cert', files.cert, '--tls-key', files.key]
  const args = ['serve', '--listen', host, '--data', data, ...tls, ...(options.args ?? [])]
  const program = startProgram(dvcrProgram, args)
  const shown = client ? ['--cert', client.cert, '--key', client.key] : []
  const server: TlsServer = {
    ...program,
    url,
    curl: (version, more) => curl(['--cacert', ca, `--http${version}`, ...more]),
    connect: async () => connect(url, { ca: await readFile(ca) }),
  }
  while ((await server.curl('1.1', [...shown, `${url}/readyz`])).status !== 200) {
    if (!program.isRunning()) throw new Error(program.output())
    await sleep(50)
  }
  return server
}

const facts = '\n%{http_code} %{http_version} %{size_upload}'

async function curl(args: readonly string[]): Promise<CurlAnswer> {
  const { stdout, exitCode } = await execa('curl', ['-s', '-w', facts, ...args], { reject: false })
  const end = stdout.lastIndexOf('\n')
  const [status = '0', version = '', uploaded = '0'] = stdout.slice(end + 1).split(' ')
  const body = stdout.slice(0, Math.max(0, end))
  return { status: Number(status), version, body, uploaded: Number(uploaded), exitCode }
}
