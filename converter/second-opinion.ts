import { open } from 'node:fs/promises'
import { z } from 'zod'
import { CodedError } from '../core/errors.ts'
import type { BlobFile } from '../core/registry.ts'
import { runConfined, type ProgramEnd, type ProgramLimits } from './confined-program.ts'

/** A qcow2 inside a file of this machine, and what we say of it. */
export interface StoredQcow2 {
  /** `undefined`: its bytes are on no file of this machine, and nobody is asked. */
  readonly file: BlobFile | undefined
  readonly fileSize: number
  readonly virtualSize: number
}

const limits: ProgramLimits = {
  wallMs: 30_000,
  cpuSeconds: 10,
  memoryBytes: 1024 ** 3,
  outputBytes: 1024 * 1024,
}
const sectorBytes = 512

const jsonText = z.string().transform((text, context): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    context.addIssue('not JSON')
    return z.NEVER
  }
})

/** What matters of `qemu-img info --output=json`. */
const infoSchema = z.object({
  format: z.string(),
  'virtual-size': z.number(),
  encrypted: z.boolean().optional(),
  'backing-filename': z.string().optional(),
  'full-backing-filename': z.string().optional(),
  'format-specific': z
    .object({ data: z.object({ 'data-file': z.string().optional() }) })
    .optional(),
})

/**
 * Asks qemu-img, where the system has it, whether a qcow2 is one, of that virtual size, and a disk
 * of its own: before anybody can see the image. qemu-img gets the file and nothing else, is told
 * the format, and opens no file that the image names. Throws IMAGE_UNSAFE where it says something
 * else, refuses the image or dies of it.
 */
export async function confirmQcow2(
  { file, fileSize, virtualSize }: StoredQcow2,
  { signal }: { readonly signal: AbortSignal },
): Promise<void> {
  if (!file || !(await isInstalled())) return
  await using handle = await open(file.path)
  const end = await runConfined(['qemu-img', 'info', ...questionOf(file, fileSize)], {
    stdin: handle.fd,
    limits,
    signal,
  })
  const why = objection(end, virtualSize)
  if (why !== undefined) throw new CodedError('IMAGE_UNSAFE', `the qcow2 is refused: ${why}`)
}

let installed: Promise<boolean> | undefined

/** Asked once: what is installed while the server runs counts from its next start. */
function isInstalled(): Promise<boolean> {
  const { signal } = new AbortController()
  installed ??= runConfined(['qemu-img', '--version'], { stdin: 'ignore', limits, signal }).then(
    ({ exitCode }) => exitCode === 0,
  )
  return installed
}

/** Every layer is named, so nothing is probed; its standard input is the only file it opens. */
function questionOf({ start }: BlobFile, fileSize: number): string[] {
  const options = {
    driver: 'qcow2',
    'file.driver': 'raw',
    'file.offset': start,
    // What follows in the file up to the sector's end are zeros.
    'file.size': Math.ceil(fileSize / sectorBytes) * sectorBytes,
    'file.file.driver': 'file',
    'file.file.filename': '/proc/self/fd/0',
    'file.file.locking': 'off',
  }
  const words = Object.entries(options).map(([name, value]) => `${name}=${value}`)
  return ['--output=json', '--image-opts', words.join(',')]
}

/** Why the image is not what we take it for; `undefined`: qemu-img agrees. */
function objection(
  { exitCode, killedBy, output, errorOutput }: ProgramEnd,
  virtualSize: number,
): string | undefined {
  if (killedBy !== undefined) return `qemu-img does not survive it (${killedBy})`
  if (exitCode !== 0) return `qemu-img does not open it: ${lastReason(errorOutput)}`
  const parsed = jsonText.pipe(infoSchema).safeParse(output)
  if (!parsed.success) return 'qemu-img says something about it that nobody here understands'
  const { data } = parsed
  if (data.format !== 'qcow2') return `qemu-img takes it for ${data.format}`
  if (data['virtual-size'] !== virtualSize) {
    return `qemu-img finds ${data['virtual-size']} bytes of virtual size in it, and we ${virtualSize}`
  }
  if (data['backing-filename'] !== undefined || data['full-backing-filename'] !== undefined) {
    return 'qemu-img finds a backing file in it'
  }
  if (data['format-specific']?.data['data-file'] !== undefined) {
    return 'qemu-img finds an external data file in it'
  }
  return data.encrypted === true ? 'qemu-img finds it encrypted' : undefined
}

/** Without the long name that we gave the image. */
function lastReason(errorOutput: string): string {
  const reason = errorOutput.trim().split('\n').at(-1)?.split("': ").at(-1) ?? ''
  return JSON.stringify(reason.slice(0, 200))
}
