import { z } from 'zod'

/** What a damage is called, what it means and what to do: the vocabulary of `dvcr registry fsck`. */
const findings = {
  'layout-differs': {
    level: 'error',
    remedy: 'use the version of dvcr that wrote it, or read the upgrade notes in CHANGELOG.md',
  },
  'key-unknown': {
    level: 'error',
    remedy: 'not written by dvcr: look what it is and move it out of the store',
  },
  'record-damaged': {
    level: 'error',
    remedy: 'restore this object from a backup, or delete it and push what it belonged to again',
  },
  'data-missing': {
    level: 'error',
    remedy: 'dvcr registry scrub takes the blob out of service; then push it again',
  },
  'data-differs': {
    level: 'error',
    remedy: 'dvcr registry scrub takes the blob out of service; then push it again',
  },
  'data-unreadable': {
    level: 'error',
    remedy: 'the storage fails: look into its log, and copy the store away (dvcr registry export)',
  },
  'data-orphan': {
    level: 'error',
    remedy: 'delete it, unless a damaged record that is named too is of it',
  },
  'session-data-missing': {
    level: 'error',
    remedy: 'the upload cannot go on: its client has to start again; it is removed when it is old',
  },
  'quarantine-data-missing': {
    level: 'note',
    remedy: 'the damaged bytes are gone: dvcr registry scrub --purge forgets them',
  },
  'pointer-missing': {
    level: 'error',
    remedy: 'push the blob again, or delete the images that need it',
  },
  'size-differs': { level: 'error', remedy: 'push the blob again' },
  'reference-missing': {
    level: 'error',
    remedy: 'pull the blob and push it again at once: nothing keeps it from being collected',
  },
  'reference-orphan': {
    level: 'note',
    remedy: 'a push that broke has left it; dvcr registry gc removes it within a day or two',
  },
  'manifest-differs': {
    level: 'error',
    remedy: 'delete the manifest by its digest and push it again',
  },
  'manifest-record-differs': {
    level: 'error',
    remedy: 'delete the manifest by its digest and push it again',
  },
  'manifest-unfinished': {
    level: 'note',
    remedy: 'a push that broke has left it; dvcr registry gc removes it',
  },
  'blob-missing': {
    level: 'error',
    remedy: 'push the blob to this repository again, or delete the image',
  },
  'child-missing': { level: 'error', remedy: 'push that manifest again, or delete the index' },
  'referrer-missing': {
    level: 'error',
    remedy: 'push the manifest again: it is not listed among the referrers of its subject',
  },
  'referrer-orphan': { level: 'note', remedy: 'it lists nothing and can be deleted' },
  'tag-dangling': { level: 'error', remedy: 'dvcr registry gc removes it; push the image again' },
  'tag-young': {
    level: 'note',
    remedy: 'a push that broke has left it; dvcr registry gc removes it',
  },
  'tag-differs': { level: 'error', remedy: 'push the tag again' },
  'quota-differs': { level: 'error', remedy: 'dvcr registry quota --recount' },
} as const satisfies Record<string, { readonly level: 'error' | 'note'; readonly remedy: string }>

export type FindingKind = keyof typeof findings

/** One thing that is not as the layout says. `note`: nobody suffers from it, and it passes. */
export const findingSchema = z.object({
  level: z.enum(['error', 'note']),
  kind: z.string(),
  key: z.string(),
  /** What is wrong. */
  problem: z.string(),
  /** What to do. */
  remedy: z.string(),
})
export type Finding = z.output<typeof findingSchema>

export function finding(kind: FindingKind, key: string, problem: string): Finding {
  const { level, remedy } = findings[kind]
  return { level, kind, key, problem, remedy }
}
