import { randomBytes } from 'node:crypto'
import { digestOf, type DigestAlgorithm } from '../../core/digest.ts'
import { mediaTypes } from '../../core/manifest.ts'
import { expectStatus, type Trial } from './check.ts'
import { locationOf, withDigest, type Answer } from './client.ts'

export interface SampleBlob {
  readonly bytes: Buffer
  readonly digest: string
}

export interface SampleManifest extends SampleBlob {
  readonly mediaType: string
}

export interface SampleDescriptor {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
}

export const emptyType = 'application/vnd.oci.empty.v1+json'

/** Random bytes that no registry has; of one byte, every 256th is the one before. */
export function sampleBlob(size: number, algorithm: DigestAlgorithm = 'sha256'): SampleBlob {
  return blobOf(randomBytes(size), algorithm)
}

export function blobOf(content: Uint8Array, algorithm: DigestAlgorithm = 'sha256'): SampleBlob {
  const bytes = Buffer.from(content)
  return { bytes, digest: digestOf(bytes, algorithm) }
}

export function descriptorOf(
  { bytes, digest }: SampleBlob,
  mediaType: string = mediaTypes.ociLayer,
): SampleDescriptor {
  return { mediaType, digest, size: bytes.length }
}

export async function startUpload({ send, name }: Trial, query = ''): Promise<string> {
  const answer = await send('POST', `/v2/${name}/blobs/uploads/${query}`)
  expectStatus(answer, 202)
  return locationOf(answer)
}

/** POST, then PUT with all bytes; fails unless the registry takes it. */
export async function pushBlob(trial: Trial, blob: SampleBlob): Promise<Answer> {
  const location = await startUpload(trial)
  const answer = await trial.send('PUT', withDigest(location, blob.digest), { body: blob.bytes })
  expectStatus(answer, 201)
  return answer
}

export const sendChunk = (
  { send }: Trial,
  location: string,
  { bytes, start }: { readonly bytes: Buffer; readonly start: number },
): Promise<Answer> =>
  send('PATCH', location, {
    body: bytes,
    headers: { 'content-range': `${start}-${start + bytes.length - 1}` },
  })

export function manifestOf(
  mediaType: string,
  fields: Readonly<Record<string, unknown>>,
  algorithm: DigestAlgorithm = 'sha256',
): SampleManifest {
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, ...fields }))
  return { mediaType, ...blobOf(bytes, algorithm) }
}

/** An OCI image with a config of its own that is pushed; `fields` replace or join the usual ones. */
export async function imageOf(
  trial: Trial,
  fields: Readonly<Record<string, unknown>> = {},
  algorithm: DigestAlgorithm = 'sha256',
): Promise<SampleManifest> {
  const config = sampleBlob(30)
  await pushBlob(trial, config)
  const usual = { config: descriptorOf(config, mediaTypes.ociConfig), layers: [] }
  return manifestOf(mediaTypes.ociManifest, { ...usual, ...fields }, algorithm)
}

export const putManifest = (
  { send, name }: Trial,
  { bytes, mediaType }: SampleManifest,
  reference: string,
): Promise<Answer> =>
  send('PUT', `/v2/${name}/manifests/${reference}`, {
    body: bytes,
    headers: { 'content-type': mediaType },
  })

/** Fails unless the registry takes it; by its digest unless another reference is given. */
export async function pushManifest(
  trial: Trial,
  manifest: SampleManifest,
  reference: string = manifest.digest,
): Promise<Answer> {
  const answer = await putManifest(trial, manifest, reference)
  expectStatus(answer, 201)
  return answer
}

/** An image made and pushed under that tag. */
export async function pushImage(
  trial: Trial,
  tag: string,
  fields: Readonly<Record<string, unknown>> = {},
): Promise<SampleManifest> {
  const image = await imageOf(trial, fields)
  await pushManifest(trial, image, tag)
  return image
}
