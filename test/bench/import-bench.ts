import { symlink, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { bootSectorDisk } from '../fixtures/boot-sector.ts'
import { diskImage, grubRescueIso, type DiskName, type Variant } from '../fixtures/images.ts'
import { startNginx } from '../fixtures/nginx.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { checkStoredDisk } from './import-check.ts'
import { runImport, type Contestant, type ImportRun } from './import-contestants.ts'
import { importRivals, measureCommand } from './import-rivals.ts'
import type { Usage } from './process-usage.ts'

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

/** One import by each, and one run of the input's rival, where it has one. */
export type Round = Readonly<Record<Contestant, ImportRun>> & { readonly rival: Usage | undefined }

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
    const serve = async (file: string): Promise<string> => {
      await symlink(file, join(served.path, basename(file)))
      return basename(file)
    }
    const fileName = await serve(path)
    const rival = importRivals[input]?.does
    const rivalFile =
      rival && 'imports' in rival ? await serve(await diskImage(options.disk, rival.imports)) : ''
    const rounds: Round[] = []
    for (let round = 1; round <= options.rounds; round++) {
      const logged = async <Run extends Usage>(
        who: string,
        running: Promise<Run>,
      ): Promise<Run> => {
        options.signal.throwIfAborted()
        const run = await running
        options.log(`${input}, round ${round}, ${who}: ${(run.wallMs / 1000).toFixed(1)} s`)
        return run
      }
      const importBy = (contestant: Contestant, file = fileName): Promise<ImportRun> =>
        runImport(contestant, {
          url: `${nginx.url}/${file}`,
          fileName: file,
          warmUpUrl: `${nginx.url}/warm-up.raw.gz`,
          check: async (image) => {
            if (round === 1) await checkStoredDisk(image, source)
          },
          signal: options.signal,
        })
      const runRival = async (): Promise<Usage | undefined> => {
        if (!rival) return undefined
        if ('imports' in rival) return logged('one thread', importBy('dvcr', rivalFile))
        return logged('rival', measureCommand(rival.command(path), options.signal))
      }
      rounds.push({
        dvcr: await logged('dvcr', importBy('dvcr')),
        rival: await runRival(),
        plain: await logged('plain', importBy('plain')),
        tuned: await logged('tuned', importBy('tuned')),
      })
    }
    yield { input, rounds }
  }
}
