import type { ImportStage, Report } from '../core/report.ts'

/** Turns what the stages do into events; the only writer of an import's progress. */
export interface Progress {
  /** The import is now at `stage`. */
  stage(stage: ImportStage): void
  /** So many bytes of the source were transferred by an earlier run. */
  begin(bytes: number): void
  /** `bytes` more came from the source. */
  transferred(bytes: number, totalBytes: number | undefined): void
  /** `bytes` in all, of `totalBytes`, went to another registry. */
  pushed(bytes: number, totalBytes: number): void
  /** All bytes that came from the source so far. */
  readonly sourceBytes: number
}

export function createProgress(report: Report): Progress {
  let sourceBytes = 0
  return {
    stage: (stage) => report({ type: 'progress', stage, bytes: 0, totalBytes: undefined }),
    begin: (bytes) => (sourceBytes = bytes),
    transferred(bytes, totalBytes) {
      sourceBytes += bytes
      report({ type: 'progress', stage: 'transfer', bytes: sourceBytes, totalBytes })
    },
    pushed: (bytes, totalBytes) => report({ type: 'progress', stage: 'push', bytes, totalBytes }),
    get sourceBytes() {
      return sourceBytes
    },
  }
}
