import { readFileSync, writeFileSync } from 'node:fs'

// Adds to package-lock.json the optional packages of other platforms that npm left out because the
// registry it was written against does not have them: `npm ci` refuses a lock file without them.
// Run after every change of dependencies. They carry no hash, and are installed on no platform
// that this project supports.

interface LockedPackage {
  readonly version?: string
  readonly optional?: boolean
  readonly os?: readonly string[]
  readonly cpu?: readonly string[]
  readonly libc?: readonly string[]
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

interface Lock {
  packages: Record<string, LockedPackage>
}

/** Operating system, processor and C library at the end of a package name. */
const platform =
  /[-/](android|darwin|freebsd|linux|netbsd|openbsd|openharmony|sunos|aix|win32|wasm32)(?:-([a-z]+\d*[a-z]?))?(?:-(gnu|musl))?/

function stub(name: string, version: string): LockedPackage {
  const [, os = '', cpu, libc] = platform.exec(name) ?? []
  if (os === '') throw new Error(`no platform in the name of ${name}; complete the lock by hand`)
  if (os === 'wasm32') return { version, optional: true, cpu: ['wasm32'] }
  const libcs = libc === undefined ? {} : { libc: [libc === 'gnu' ? 'glibc' : 'musl'] }
  return { version, optional: true, os: [os], ...(cpu && { cpu: [cpu] }), ...libcs }
}

const path = 'package-lock.json'
const lock: Lock = JSON.parse(readFileSync(path, 'utf8'))
for (const { optionalDependencies = {} } of Object.values(lock.packages)) {
  for (const [name, version] of Object.entries(optionalDependencies)) {
    lock.packages[`node_modules/${name}`] ??= stub(name, version)
  }
}
const [root, ...rest] = Object.entries(lock.packages)
if (!root) throw new Error(`${path} holds no packages`)
rest.sort(([a], [b]) => (a < b ? -1 : 1))
lock.packages = Object.fromEntries([root, ...rest])
writeFileSync(path, `${JSON.stringify(lock, undefined, 2)}\n`)
