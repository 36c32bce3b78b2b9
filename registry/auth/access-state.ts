import { CodedError } from '../../core/errors.ts'
import { parseAccessFile, type AccessFile, type ReadFiles } from './access-file.ts'
import { createClientAddresses, type ClientAddresses } from './client-address.ts'
import { createHtpasswdProvider, parseHtpasswd } from './htpasswd.ts'
import type { Provider } from './identity.ts'
import { createKubernetesProvider } from './kubernetes.ts'
import { createRequestLimit, type RequestLimit } from './limits.ts'
import { createOidcProvider, parseJwks } from './oidc.ts'
import { createRobotProvider, parseRobots } from './robots.ts'
import { createRules, type AccessRules } from './rules.ts'

/** All that one reading of the access file and its files says. */
export interface AccessState extends AsyncDisposable {
  readonly file: AccessFile
  readonly rules: AccessRules
  /** In the order in which they are asked. */
  readonly providers: readonly Provider[]
  readonly limits: { readonly identity: RequestLimit; readonly address: RequestLimit }
  readonly addresses: ClientAddresses
}

/** Reads `path` and what it names through `files`. Throws SETTING_INVALID naming file and field. */
export async function readAccessState(path: string, files: ReadFiles): Promise<AccessState> {
  const file = parseAccessFile(await files.text(path), path)
  await using owned = new AsyncDisposableStack()
  const providers = await openProviders(file, files, owned)
  const { identity, address } = file.limits
  const stack = owned.move()
  return {
    file,
    rules: createRules({ rules: file.rules, groups: file.groups, otherWho: file.metrics }),
    providers,
    limits: { identity: createRequestLimit(identity), address: createRequestLimit(address) },
    addresses: createClientAddresses(file.trustedProxies),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}

/** Those first that know a stranger's secret without asking anybody. */
async function openProviders(
  { providers }: AccessFile,
  files: ReadFiles,
  owned: AsyncDisposableStack,
): Promise<Provider[]> {
  const { htpasswd, robots, oidc, kubernetes } = providers
  const opened: Provider[] = []
  if (robots)
    opened.push(createRobotProvider(parseRobots(await files.text(robots.file), robots.file)))
  const prefixes = new Set<string>()
  for (const one of oidc) {
    const prefix = one.prefix ?? `${new URL(one.issuer).host}:`
    const other = [...prefixes].find(
      (known) => known.startsWith(prefix) || prefix.startsWith(known),
    )
    if (other !== undefined) {
      throw new CodedError(
        'SETTING_INVALID',
        `providers.oidc: the prefixes ${JSON.stringify(other)} and ${JSON.stringify(prefix)} begin alike, so one issuer could name the other's users; give each its own`,
      )
    }
    prefixes.add(prefix)
    const { jwksUrl, jwksFile, caFile, name, groups, ...rest } = one
    const fromUrl = jwksUrl === undefined ? undefined : { url: jwksUrl }
    const jwks =
      jwksFile === undefined ? fromUrl : { keys: parseJwks(await files.text(jwksFile), jwksFile) }
    const ca = caFile === undefined ? undefined : await files.text(caFile)
    const options = { ...rest, prefix, jwks, ca, nameClaim: name, groupsClaim: groups }
    opened.push(owned.use(createOidcProvider(options)))
  }
  if (kubernetes) {
    const { caFile, ...rest } = kubernetes
    const ca = await files.text(caFile)
    opened.push(owned.use(createKubernetesProvider({ ...rest, ca })))
  }
  if (htpasswd) {
    const users = parseHtpasswd(await files.text(htpasswd.file), htpasswd.file)
    opened.push(createHtpasswdProvider(users))
  }
  return opened
}
