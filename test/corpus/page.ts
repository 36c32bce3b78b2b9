import { corpus } from './corpus.ts'
import type { Verdict } from './corpus-file.ts'

/** `docs/formats.md`: what becomes of each file of the corpus. */
export function formatsPage(): string {
  const groups = Object.entries(corpus).map(([title, files]) => {
    const rows = files.map(
      ({ name, what, verdict }) => `| \`${name}\` | ${what} | ${told(verdict)} |`,
    )
    return `## ${title}\n\n| file | what it is | verdict |\n|---|---|---|\n${rows.join('\n')}\n`
  })
  return `# Formats

<!-- Made by test/corpus/corpus.test.ts: \`npx vitest run -u test/corpus\`; do not edit. -->

What is imported, what is refused, and why. Every line is a file that \`test/corpus/\` makes and imports
into a running server: its verdict and content are compared, the server must go on as before, and no byte of a
file of the machine that many of them name may be found in what is stored, answered or logged.

- **accepted**: stored byte by byte as it came, once unpacked.
- **re-encoded**: stored as our qcow2; the disk in it is the one that qemu-img reads of the source.
- **refused**: with that code, and a message that names what is in quotes.

What holds for all:

- The format is found from the first 64 KiB, by what they hold and never by a name; two formats at once are
  refused. Partition tables and file systems are contents: what no format claims is raw.
- No file but the source is opened: not a backing file, data file, extent or parent, in none of their spellings.
- No byte of a file is two things: tables and data that overlap are refused, so that a small file is no endless
  disk (compressed clusters of a qcow2 that is stored as it came may share bytes with each other).
- What a table maps must be there: whatever ends before it is refused. An ISO shorter than its volume, and a raw
  disk that ends before its GPT or lacks its second header, are refused where neither a length nor a checksum nor a
  compression says that all of it came; else the image has a warning, which \`dvcr inspect\` shows.
- What is unpacked is looked at as if it had come so.
- Compressed clusters of a qcow2 that is stored as it came are not inflated, and its refcounts are not compared.
- Where the machine has \`qemu-img\`, it must agree ([decision 24](decisions/024-second-opinion.md)).

Make the files yourself: \`node test/corpus/main.ts FOLDER\`.

${groups.join('\n')}`
}

function told(verdict: Verdict): string {
  if (verdict.kind !== 'refused') {
    const { kind, warning } = verdict
    return warning === undefined ? kind : `${kind}, with a warning: “${warning}”`
  }
  return `refused: ${verdict.code}, “${verdict.names}”`
}
