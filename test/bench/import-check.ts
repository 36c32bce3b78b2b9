import { execa } from 'execa'
import { join } from 'node:path'
import { parseManifest } from '../../core/manifest.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'

/**
 * Throws unless the image's one layer holds the same disk as `source`: a raw disk, or an ISO that
 * must be the same file. GNU tar and qemu-img judge.
 */
export async function checkStoredDisk(
  image: { readonly registryUrl: string; readonly name: string; readonly tag: string },
  source: string,
): Promise<void> {
  await using folder = await createTempFolder()
  const repository = `${image.registryUrl}/v2/${image.name}`
  const accept = 'application/vnd.oci.image.manifest.v1+json'
  const response = await fetch(`${repository}/manifests/${image.tag}`, { headers: { accept } })
  const manifest = parseManifest(accept, Buffer.from(await response.arrayBuffer()))
  const [layer, ...more] = manifest.layers ?? []
  if (!layer || more.length > 0) throw new Error(`${image.name}:${image.tag} must have one layer`)
  const pull = 'curl -sSf "$1" | tar -x --no-same-owner -C "$2"'
  const layerUrl = `${repository}/blobs/${layer.digest}`
  await execa('bash', ['-euo', 'pipefail', '-c', pull, 'bash', layerUrl, folder.path])
  if (source.endsWith('.iso')) {
    await execa('cmp', [source, join(folder.path, 'disk/disk.iso')])
    return
  }
  const stored = join(folder.path, 'disk/disk.qcow2')
  await execa('qemu-img', ['check', '-q', '-f', 'qcow2', stored])
  await execa('qemu-img', ['compare', '-q', '-f', 'raw', '-F', 'qcow2', source, stored])
}
