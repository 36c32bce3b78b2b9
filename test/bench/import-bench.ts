import { symlink, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { bootSectorDisk } from '../fixtures/boot-sector.ts'
import { diskImage, grubRescueIso, type DiskName, type Variant } from '../fixtures/images.ts'
import { startNginx } from '../fixtures/nginx.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { checkStoredDisk } from './import-check.ts'
import { contestants, runImport, type Contestant, type ImportRun } from './import-contestants.ts'

/** What the benchmark imports, by the file's ending. */
export const benchInputs = [
  'raw',
  'raw.gz',
  'raw.zst',
  'raw.multi-block.xz',
  'raw.xz',
  'qcow2',
  'iso',
] as const satisfies readonly (Variant | 'iso')[]
export type BenchInput = (typeof benchInputs)[number]

/** One import by each. */
export type Round = Readonly<Record<Contestant, ImportRun>>

export interface InputResult {
  readonly input: BenchInput
  readonly rounds: readonly Round[]
}

export interface ImportBenchOptions {
  readonly disk: DiskName
  readonly inputs: readonly BenchInput[]
  readonly rounds: number
  readonly signal: AbortSignal
  /** Lines for people who wait. */
  readonly log: (line: string) => void
}

/**
 * Imports every input by every contestant in turn, so that what else the machine does hits all
 * alike, and yields per input. Throws where an import fails or stores another disk than the source.
 */
export async function* benchImports(options: ImportBenchOptions): AsyncGenerator<InputResult> {
  await using served = await createTempFolder()
  await using nginx = await startNginx(served.path)
  const warmUp = bootSectorDisk()
  // Other contents than any input: a blob that is stored already could be quicker.
  warmUp.write('warm-up', warmUp.length - 512)
  await writeFile(join(served.path, 'warm-up.raw.gz'), gzipSync(warmUp))
  for (const input of options.inputs) {
    const path = input === 'iso' ? grubRescueIso : await diskImage(options.disk, input)
    const source = input === 'iso' ? path : await diskImage(options.disk, 'raw')
    const fileName = basename(path)
    await symlink(path, join(served.path, fileName))
    const rounds: Round[] = []
    for (let round = 1; round <= options.rounds; round++) {
      const run = async (contestant: Contestant): Promise<ImportRun> => {
        options.signal.throwIfAborted()
        const result = await runImport(contestant, {
          url: `${nginx.url}/${fileName}`,
          fileName,
          warmUpUrl: `${nginx.url}/warm-up.raw.gz`,
          check: async (image) => {
            if (round === 1) await checkStoredDisk(image, source)
          },
          signal: options.signal,
        })
        options.log(
          `${input}, round ${round}, ${contestant}: ${(result.wallMs / 1000).toFixed(1)} s`,
        )
        return result
      }
      const [dvcr, plain, tuned] = contestants
      rounds.push({ dvcr: await run(dvcr), plain: await run(plain), tuned: await run(tuned) })
    }
    yield { input, rounds }
  }
}
