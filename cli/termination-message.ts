import type { CodedError } from '../core/errors.ts'
import type { ImportRecord } from '../importer/import-record.ts'

/** Bytes that Kubernetes keeps of it. @see Kubernetes, customizing the termination message */
export const mostMessageBytes = 4096

export type ImageFacts = NonNullable<ImportRecord['image']>
export type FailureFacts = Pick<CodedError, 'code' | 'message' | 'retryable'>

/** What a pod says of an image that it imported; what is empty is left out. */
export function successMessage(image: ImageFacts): string {
  const facts = {
    'source-image-size': image.sourceBytes,
    'source-image-virtual-size': image.virtualSize,
    'source-image-format': image.format,
    duration: Math.round(image.durationMs * 1e6),
    'average-speed': Math.round(image.bytesPerSecond),
    digest: image.digest,
    'layer-digest': image.layerDigest,
    'stored-size': image.storedSize,
    'content-digest': image.contentDigest,
  }
  const known = Object.entries(facts).filter(([, value]) => value !== undefined && value !== 0)
  return JSON.stringify(Object.fromEntries(known))
}

/**
 * What a pod says of an import that failed: JSON of at most 4096 bytes of UTF-8. The text is cut
 * between two characters where it does not fit.
 */
export function failureMessage({ code, message, retryable }: FailureFacts): string {
  const withText = (text: string): string =>
    JSON.stringify({ 'error-message': text, 'error-code': code, 'error-retryable': retryable })
  const fits = (json: string): boolean => Buffer.byteLength(json) <= mostMessageBytes
  const whole = message.length <= mostMessageBytes ? withText(message) : undefined
  if (whole !== undefined && fits(whole)) return whole
  // Each is a byte at least; `slice` may have cut a pair, which the cut below then leaves out.
  const characters = Array.from(message.slice(0, mostMessageBytes))
  const shortened = (count: number): string => withText(`${characters.slice(0, count).join('')}…`)
  let most = 0
  for (let step = mostMessageBytes; step >= 1; step /= 2) {
    if (most + step < characters.length && fits(shortened(most + step))) most += step
  }
  return shortened(most)
}
