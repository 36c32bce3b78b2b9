/** What rules allow, per repository. `admin` includes the others. */
export const actions = ['pull', 'push', 'delete', 'admin'] as const
export type Action = (typeof actions)[number]

/** What the caller of one request may do. */
export interface Access {
  /** `kind:name` of the caller, for logs and records. */
  readonly caller: string
  may(action: Action, repository: string): boolean
  /**
   * Throws UNAUTHORIZED where other credentials or a wider token may help, else DENIED; both name
   * the action and the repository, and neither says whether the repository exists.
   */
  demand(action: Action, repository: string): void
  /** Like `demand`, for some repository: which one only the request's body says. */
  demandSome(action: Action): void
  /**
   * Whether content of `repository` may be used that the server finds by itself, as in a mount
   * without a source: what the caller's rules let them pull, whatever their token is limited to.
   */
  mayFind(repository: string): boolean
}

/** The access of everybody on a server without authentication. */
export const fullAccess: Access = {
  caller: 'anonymous',
  may: () => true,
  demand: () => {},
  demandSome: () => {},
  mayFind: () => true,
}
