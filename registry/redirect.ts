/** When a GET of a blob is answered with the storage's own URL instead of the bytes. */
export const redirectModes = ['auto', 'always', 'never'] as const

export interface RedirectPolicy {
  /**
   * `auto`: large blobs, where the storage is one that clients can be expected to reach, under
   * another host name than the registry's: clients send their credentials along otherwise.
   */
  readonly mode: (typeof redirectModes)[number]
  /** The storage has a public address, or one with TLS. */
  readonly isPublic: boolean
}

export const neverRedirect: RedirectPolicy = { mode: 'never', isPublic: false }

/** Seconds a URL works; a client asks at once, and what it then reads may take longer. */
const lifetimeS = 15 * 60
/** A smaller blob is there before the second connection is. */
const worthwhileBytes = 1024 * 1024

export interface Redirectable {
  readonly size: number
  presign(options: {
    readonly lifetimeS: number
    readonly contentType: string
  }): Promise<string | undefined>
}

/** Where a client that asked `hostname` gets the blob; `undefined`: here. */
export async function redirectOf(
  { size, presign }: Redirectable,
  { mode, isPublic }: RedirectPolicy,
  hostname: string,
): Promise<string | undefined> {
  if (mode === 'never') return undefined
  if (mode === 'auto' && (!isPublic || size < worthwhileBytes)) return undefined
  const url = await presign({ lifetimeS, contentType: 'application/octet-stream' })
  const isOwnHost = url !== undefined && new URL(url).hostname === hostname
  return mode === 'auto' && isOwnHost ? undefined : url
}
