import { X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createServer, connect, type TLSSocket } from 'node:tls'
import { once } from 'node:events'
import { describe, expect, it } from 'vitest'
import { createAuthority } from '../../test/fixtures/certificates.ts'
import { listenOnLoopback } from '../../test/fixtures/ports.ts'
import { refusalOf } from '../../test/fixtures/refusal.ts'
import { createTempFolder } from '../../test/fixtures/temp-folder.ts'
import { certificateIdentity, parseAuthorization, secretName } from './identity.ts'

const base64 = (text: string): string => Buffer.from(text).toString('base64')

describe('parseAuthorization', () => {
  it('knows Basic and Bearer in any case, and that there is none', () => {
    expect(parseAuthorization(undefined)).toEqual({ kind: 'none' })
    expect(parseAuthorization('')).toEqual({ kind: 'none' })
    expect(parseAuthorization('bEARER a.b')).toEqual({ kind: 'bearer', token: 'a.b' })
    expect(parseAuthorization(`basic ${base64('al:pa:ß')}`)).toEqual({
      kind: 'basic',
      user: 'al',
      password: 'pa:ß',
    })
  })

  it('refuses everything else', () => {
    for (const header of ['Basic', `Basic ${base64('no colon')}`, 'Digest x', 'Bearer a b', 'x']) {
      expect([header, refusalOf(() => parseAuthorization(header))]).toEqual([
        header,
        'UNAUTHORIZED',
      ])
    }
  })
})

it('secrets have different names, however they are cut into parts', () => {
  expect(secretName('a', 'b')).toBe(secretName('a', 'b'))
  expect(secretName('ab', '')).not.toBe(secretName('a', 'b'))
  expect(secretName('a', '1:b')).not.toBe(secretName('a1:b', ''))
})

describe('certificateIdentity', () => {
  /** The server's side of a connection of a client with `cert`. */
  async function accept(files: { ca: string; trusted: string; name: string }) {
    await using folder = await createTempFolder()
    const authority = await createAuthority(folder.path, files.ca)
    const other = await createAuthority(folder.path, files.trusted)
    const server = await authority.issue('server')
    const client = await other.issue(files.name)
    const [key, cert, ca] = await Promise.all(
      [server.key, server.cert, authority.ca].map((path) => readFile(path)),
    )
    const listening = createServer({
      key,
      cert,
      ca,
      requestCert: true,
      rejectUnauthorized: false,
    })
    const port = await listenOnLoopback(listening)
    const [clientKey, clientCert] = await Promise.all(
      [client.key, client.cert].map((path) => readFile(path)),
    )
    const accepted: Promise<TLSSocket[]> = once(listening, 'secureConnection')
    const socket = connect({ port, key: clientKey, cert: clientCert, rejectUnauthorized: false })
    const [served] = await accepted
    if (!served) throw new Error('no connection')
    const facts = {
      authorized: served.authorized,
      certificate: served.getPeerCertificate(),
      validTo: new X509Certificate(clientCert ?? '').validToDate.getTime(),
    }
    socket.destroy()
    served.destroy()
    listening.close()
    return facts
  }

  it('is the name in a certificate that the server trusts, and only there', async () => {
    const { authorized, certificate, validTo } = await accept({
      ca: 'ours',
      trusted: 'ours',
      name: 'worker-1',
    })
    expect(authorized).toBe(true)
    const getPeerCertificate = () => certificate
    const socket = { authorized, getPeerCertificate }
    const identity = { kind: 'certificate', groups: [], expiresAt: validTo }
    expect(certificateIdentity(socket, 'cn')).toEqual({ ...identity, name: 'worker-1' })
    expect(certificateIdentity(socket, 'dns')).toEqual({ ...identity, name: 'localhost' })
    expect(certificateIdentity(socket, 'uri')).toBeUndefined()
  })

  it('is nobody for a certificate of another authority', async () => {
    const { authorized, certificate } = await accept({
      ca: 'ours',
      trusted: 'theirs',
      name: 'worker-1',
    })
    expect(certificate.subject.CN).toBe('worker-1')
    const getPeerCertificate = () => certificate
    expect(certificateIdentity({ authorized, getPeerCertificate }, 'cn')).toBeUndefined()
  })

  it('is nobody where the name is not one name', async () => {
    const { certificate } = await accept({ ca: 'ours', trusted: 'ours', name: 'worker-1' })
    const named = (subjectaltname: string) =>
      certificateIdentity(
        { authorized: true, getPeerCertificate: () => ({ ...certificate, subjectaltname }) },
        'dns',
      )?.name
    expect(named('DNS:a, URI:spiffe://b')).toBe('a')
    expect(named('DNS:a, DNS:b')).toBeUndefined()
    expect(named('URI:"x, DNS:a"')).toBeUndefined()
    expect(named('')).toBeUndefined()
  })
})
