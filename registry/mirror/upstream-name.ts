import { parseName } from '../../core/reference.ts'

/** Where the repositories of a mirror are found at its upstream. */
export interface UpstreamNames {
  /** Address that requests go to. */
  readonly origin: URL
  /** The host as image references name it, and containerd's `?ns=`. */
  readonly host: string
  /** Name at the upstream of the repository `rest`, which is named without the mirror's prefix. */
  nameOf(rest: string): string
}

/**
 * Reads an `upstream` of the settings: `https://host[:port][/path]`. The path goes before every
 * name. `docker.io` means what it means to every client: Docker Hub's registry has another host
 * name, and names of one part are in `library/`.
 */
export function readUpstream(upstream: string): UpstreamNames {
  const url = new URL(upstream)
  const path = url.pathname.replace(/^\/+|\/+$/g, '')
  const isDockerHub = url.host === 'docker.io'
  const host = isDockerHub ? 'registry-1.docker.io' : url.host
  return {
    origin: new URL(`${url.protocol}//${host}/`),
    host: url.host,
    nameOf(rest) {
      if (path !== '') return parseName(`${path}/${rest}`)
      return isDockerHub && !rest.includes('/') ? `library/${rest}` : rest
    },
  }
}
