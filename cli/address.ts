import { CodedError } from '../core/errors.ts'

export interface ListenAddress {
  readonly host: string
  readonly port: number
}

/** `host:port`, IPv6 in brackets. Throws SETTING_INVALID. */
export function parseListen(text: string): ListenAddress {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text)
  const port = Number(match?.[3])
  if (!match || port > 65_535) {
    throw new CodedError('SETTING_INVALID', `listen: not host:port: ${JSON.stringify(text)}`)
  }
  return { host: match[1] ?? match[2] ?? '', port }
}

/** The address as a URL; HTTP unless told otherwise. */
export function formatUrl({
  scheme = 'http',
  host,
  port,
}: ListenAddress & { readonly scheme?: 'http' | 'https' }): string {
  return `${scheme}://${host.includes(':') ? `[${host}]` : host}:${port}`
}
