import type { Log } from '../../core/log.ts'
import type { RequestObserver } from './request-observer.ts'

/**
 * One line per request at level info. Never a query and never a header: both may hold secrets.
 * `aborted` says that the client did not stay for the whole answer.
 */
export function createAccessLog(log: Log): RequestObserver {
  return ({ id, method, path, status, seconds, bytesIn, bytesOut, identity, remote, ...rest }) =>
    log.info(
      {
        requestId: id,
        remote,
        identity,
        method,
        path,
        http: rest.raw.httpVersion,
        status,
        bytesIn,
        bytesOut,
        ms: Math.round(seconds * 1000),
        ...(rest.isAnswered ? {} : { aborted: true }),
      },
      'access',
    )
}
