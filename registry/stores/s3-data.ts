import { DeleteObjectCommand } from '@aws-sdk/client-s3'
import type { DataStore } from '../data-store.ts'
import { keys } from '../keys.ts'
import { createPieceBudget } from './s3-budget.ts'
import { readCheckpoint, segmentKey } from './s3-checkpoint.ts'
import type { S3 } from './s3-client.ts'
import { abortUpload } from './s3-complete.ts'
import { createFinisher, readSegments } from './s3-finish.ts'
import type { S3Limits } from './s3-limits.ts'
import { listPages } from './s3-objects.ts'
import type { S3Reader } from './s3-read.ts'
import { createSender, tailKey } from './s3-source.ts'
import { createS3Writer } from './s3-writer.ts'

/** Objects removed at a time. */
const removedAtOnce = 16

/**
 * Large objects of a bucket. Bytes go to their final key, `<uuid>` and where one object is too
 * small `<uuid>.1`, …, by multipart uploads; nothing is ever copied. `docs/decisions/011-s3.md`
 */
export function createS3Data(
  s3: S3,
  { reader, limits }: { readonly reader: S3Reader; readonly limits: S3Limits },
): DataStore {
  const budget = createPieceBudget({ bytes: limits.budgetBytes, pieceBytes: limits.pieceBytes })
  const finisher = createFinisher({
    s3,
    reader,
    async removeTails(uuid) {
      await removeAll(await namesOf(uuid, '.tail-'))
    },
  })

  /** Keys of all objects of a data object whose names go on with `rest`. */
  async function namesOf(uuid: string, rest: string): Promise<string[]> {
    const found: string[] = []
    const start = keys.data(uuid) + rest
    for await (const { Contents = [] } of listPages(s3, start, {})) {
      for (const { Key = '' } of Contents) found.push(s3.keyOf(Key))
    }
    return found
  }

  async function removeAll(found: readonly string[]): Promise<void> {
    const rest = found.values()
    const remove = async (): Promise<void> => {
      for (const key of rest) {
        await s3.call(`delete ${key}`, (attempt) =>
          s3.client.send(new DeleteObjectCommand(s3.place(key)), attempt),
        )
      }
    }
    await Promise.all(Array.from({ length: removedAtOnce }, remove))
  }

  return {
    async write(uuid, options) {
      return createS3Writer(uuid, options, {
        s3,
        sender: createSender(uuid, { s3, reader }),
        finisher,
        budget,
        limits,
        removeTails(names) {
          // What cannot be removed now goes with the data object.
          removeAll(names.map((name) => tailKey(uuid, name))).catch(() => {})
        },
      })
    },
    complete: (uuid, finished) => finisher.complete(uuid, finished),
    read({ data, segments }, range, signal) {
      if (segments) return readSegments(reader, data, segments, range, signal)
      return reader.read(segmentKey(data, 0), range, signal)
    },
    async delete({ data, checkpoint }) {
      const { segments } = readCheckpoint(checkpoint ?? { offset: 0 })
      let wasThere = false
      for (const [index, { uploadId }] of segments.entries()) {
        if (uploadId === undefined) continue
        const isAborted = await abortUpload(s3, { key: segmentKey(data, index), uploadId })
        wasThere ||= isAborted
      }
      const found = await namesOf(data, '')
      await removeAll(found)
      return wasThere || found.length > 0
    },
    freeBytes: async () => Infinity,
    redirect: async ({ data, segments }, options) =>
      segments ? undefined : reader.publicUrl(segmentKey(data, 0), options),
  }
}
