import { createReadStream } from 'node:fs'
import { open, rename, rm, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import type { Writable } from 'node:stream'
import { CodedError, hasErrno, toCodedError } from '../core/errors.ts'
import { formatDuration, formatSize } from '../core/sizes.ts'
import type { Bytes } from '../core/streams.ts'
import { readTar } from '../core/tar-reader.ts'
import {
  archiveIndex,
  parseEntryName,
  refuseTar,
  type ArchiveIndex,
  type LeftOut,
} from '../registry/admin/archive.ts'
import type { ImportReport } from '../registry/admin/import.ts'
import { createLiveLine } from './live-line.ts'
import { damageFound, openRegistry, type RegistryFlags } from './registry-target.ts'
import type { CommandContext } from './terminal.ts'

const json = (value: unknown): string => `${JSON.stringify(value)}\n`

/** `dvcr registry export` */
export async function exportCommand(
  flags: RegistryFlags & { readonly to: string },
  { terminal, signal }: CommandContext,
): Promise<void> {
  await using target = await openRegistry(flags, terminal)
  const { to } = flags
  const line = createLiveLine(terminal)
  const startedMs = performance.now()
  let bytes = 0
  await using out = to === '-' ? writeTo(terminal.stdout) : await createFile(to)

  async function* written(chunks: Bytes): AsyncGenerator<Uint8Array, void> {
    for await (const chunk of chunks) {
      // A chunk is valid until the next one is asked for, and both keep it longer.
      const kept = Uint8Array.from(chunk)
      await out.write(kept)
      bytes += kept.length
      const speed = formatSize(bytes / ((performance.now() - startedMs) / 1000))
      line.show(`${formatSize(bytes)}  ${speed}/s`)
      yield kept
    }
  }

  const index = await readIndex(written(target.admin.archive.export(signal)))
  await out.finish()
  line.end()
  const took = performance.now() - startedMs
  if (flags.json && to !== '-') terminal.stdout.write(json({ ...index, archiveBytes: bytes }))
  else {
    const { repositories, tags, blobs } = index
    terminal.stderr.write(
      `${repositories} repositories, ${tags} tags, ${blobs} blobs: ${formatSize(bytes)} in ${formatDuration(took)}\n`,
    )
  }
  reportLeftOut(index.leftOut, flags, terminal, 'is not in the archive')
}

/** Reads an archive through; what its index says. Throws TARGET_UNAVAILABLE where it has none. */
async function readIndex(archive: Bytes): Promise<ArchiveIndex> {
  let index: ArchiveIndex | undefined
  for await (const { name, contents } of readTar(archive, refuseTar)) {
    if (parseEntryName(name)?.kind !== 'index') continue
    const chunks: Uint8Array[] = []
    for await (const chunk of contents) chunks.push(chunk)
    index = archiveIndex.parse(JSON.parse(Buffer.concat(chunks).toString()))
  }
  if (index) return index
  throw new CodedError('TARGET_UNAVAILABLE', 'the server ended the archive before its index')
}

interface Output extends AsyncDisposable {
  write(chunk: Uint8Array): Promise<void>
  /** All of it is durable, under its name. */
  finish(): Promise<void>
}

function writeTo(stream: Writable): Output {
  return {
    write: (chunk) =>
      new Promise((resolve, reject) => {
        stream.write(chunk, (error) => (error ? reject(error) : resolve()))
      }),
    finish: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  }
}

/** A file that has its name once it is complete. */
async function createFile(path: string): Promise<Output> {
  const part = `${path}.part`
  const file = await open(part, 'w').catch((error: unknown) => {
    throw new CodedError('SETTING_INVALID', `--to: cannot write ${part}: ${String(error)}`)
  })
  let isFinished = false
  return {
    async write(chunk) {
      try {
        await file.writeFile(chunk)
      } catch (error) {
        throw toCodedError(error)
      }
    },
    async finish() {
      await file.sync()
      await rename(part, path)
      await using folder = await open(dirname(resolve(path)), 'r')
      await folder.sync()
      isFinished = true
    },
    async [Symbol.asyncDispose]() {
      await file.close()
      if (!isFinished) await rm(part, { force: true })
    },
  }
}

/** `dvcr registry import` */
export async function importCommand(
  flags: RegistryFlags & { readonly from: string; readonly replace?: boolean },
  { terminal, signal }: CommandContext,
): Promise<void> {
  const { from, replace = false } = flags
  const totalBytes = from === '-' ? undefined : await sizeOf(from)
  await using target = await openRegistry(flags, terminal)
  const line = createLiveLine(terminal)
  let bytes = 0

  async function* read(): AsyncGenerator<Uint8Array, void> {
    const source: Bytes =
      from === '-' ? terminal.stdin : createReadStream(from, { highWaterMark: 1024 * 1024 })
    for await (const chunk of source) {
      bytes += chunk.length
      const of = totalBytes === undefined ? '' : ` of ${formatSize(totalBytes)}`
      const share = totalBytes === undefined ? undefined : bytes / totalBytes
      line.show(`${formatSize(bytes)}${of}`, share)
      yield chunk
    }
  }

  let report: ImportReport | undefined
  for await (const event of target.admin.archive.import(read(), { replace, signal })) {
    if ('report' in event) report = event.report
    else {
      const { repositories, of } = event.progress
      line.show(`${repositories} of ${of} repositories`, of === 0 ? undefined : repositories / of)
    }
  }
  line.end()
  if (!report)
    throw new CodedError('TARGET_UNAVAILABLE', 'the server did not say how the import ended')
  if (flags.json) terminal.stdout.write(json(report))
  else {
    const { repositories, tags, manifests, blobs, storedBlobs, storedBytes } = report
    terminal.stdout.write(
      `${repositories} repositories, ${tags} tags, ${manifests} manifests, ${blobs} blobs; ${storedBlobs} of them were new: ${formatSize(storedBytes)}\n`,
    )
  }
  reportLeftOut(report.leftOut, flags, terminal, 'is not in the store')
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size
  } catch (error) {
    const why = hasErrno(error, 'ENOENT') ? 'there is no such file' : String(error)
    throw new CodedError('SETTING_INVALID', `--from: cannot read ${path}: ${why}`)
  }
}

function reportLeftOut(
  leftOut: readonly LeftOut[],
  { json: isJson = false }: RegistryFlags,
  { stderr }: CommandContext['terminal'],
  what: string,
): void {
  if (leftOut.length === 0) return
  if (!isJson) {
    for (const { repository, what: thing, why } of leftOut) {
      const separator = thing.includes(':') ? '@' : ':'
      stderr.write(`left out: ${repository}${separator}${thing}: ${why}\n`)
    }
  }
  throw damageFound(`${leftOut.length} of what there was ${what}`)
}
