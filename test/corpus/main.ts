import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { corpus } from './corpus.ts'
import { openWorkshop } from './workshop.ts'

// main.ts <folder>: writes every file of the corpus there, and prints its verdict.
const [folder] = process.argv.slice(2)
if (folder === undefined) throw new Error('usage: node test/corpus/main.ts <folder>')
await mkdir(folder, { recursive: true })
await using workshop = await openWorkshop()
for (const file of Object.values(corpus).flat()) {
  await writeFile(join(folder, file.name), await file.make(workshop))
  const { kind } = file.verdict
  console.log(`${file.name}: ${kind === 'refused' ? `${kind}, ${file.verdict.code}` : kind}`)
}
