import { writeSync } from 'node:fs'
import { updateContext } from '../../core/resumable-hash.ts'
import { answerRequests } from '../../core/thread-pool.ts'
import type { WriteStep } from './write-pool.ts'

/** Linux finds memory for pieces of this size at once; from 512 KiB on it takes three times as long. */
const pieceBytes = 64 * 1024

answerRequests(({ fd, position, bytes, hash }: WriteStep): void => {
  updateContext(hash.algorithm, hash.context, bytes)
  // A disk that fills up takes a part first and refuses the rest.
  for (let done = 0; done < bytes.length;) {
    const length = Math.min(pieceBytes, bytes.length - done)
    done += writeSync(fd, bytes, done, length, position + done)
  }
})
