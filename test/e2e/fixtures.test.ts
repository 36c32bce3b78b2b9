import { open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { bootSectorDisk, bootSectorLine } from '../fixtures/boot-sector.ts'
import { diskImage, grubRescueIso, linkImages } from '../fixtures/images.ts'
import {
  refusingUrl,
  startMisbehavingServer,
  startSelfSignedServer,
} from '../fixtures/misbehaving.ts'
import { startNginx } from '../fixtures/nginx.ts'
import { bootSerial } from '../fixtures/qemu-boot.ts'
import { startDockerRegistry } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'

const until = new RegExp(bootSectorLine)
const timeoutMs = 120_000

test('the boot-sector disk boots as raw', async () => {
  const image = await diskImage('boot-sector', 'raw')
  const serial = await bootSerial(image, { format: 'raw', until, timeoutMs })
  expect(serial).toContain(bootSectorLine)
})

test('the boot-sector disk boots as qcow2', async () => {
  const image = await diskImage('boot-sector', 'zstd.qcow2')
  const serial = await bootSerial(image, { format: 'qcow2', until, timeoutMs })
  expect(serial).toContain(bootSectorLine)
})

test('the smallest boot-sector disk boots', async () => {
  await using folder = await createTempFolder()
  const path = join(folder.path, 'small.raw')
  await using file = await open(path, 'w')
  await file.writeFile(bootSectorDisk({ size: 64 * 1024 }))
  const serial = await bootSerial(path, { format: 'raw', until, timeoutMs })
  expect(serial).toContain(bootSectorLine)
})

test('the ISO of grub-rescue-pc is an ISO 9660 image', async () => {
  await using file = await open(grubRescueIso)
  const { buffer } = await file.read(Buffer.alloc(5), { position: 0x8001 })
  expect(buffer.toString('latin1')).toBe('CD001')
})

test('a boot that never says the line fails with what it did say', async () => {
  const image = await diskImage('boot-sector', 'raw')
  const boot = bootSerial(image, { format: 'raw', until: /never/, timeoutMs: 5000 })
  await expect(boot).rejects.toThrow(bootSectorLine)
})

test('the Debian disk boots to a login prompt on the serial port', async () => {
  const image = await diskImage('debian', 'raw')
  const boot = { format: 'raw', until: /login:/, timeoutMs: 5 * 60_000, memoryMib: 512 } as const
  expect(await bootSerial(image, boot)).toContain('Debian GNU/Linux 12')
})

test('nginx serves linked images with ranges', async () => {
  await using folder = await createTempFolder()
  await linkImages(folder.path, 'boot-sector', ['raw'])
  await using nginx = await startNginx(folder.path)
  const url = `${nginx.url}/boot-sector.raw`
  const part = await fetch(url, { headers: { range: 'bytes=510-511' } })
  expect(part.status).toBe(206)
  expect(new Uint8Array(await part.arrayBuffer())).toEqual(Uint8Array.of(0x55, 0xaa))
  const whole = new Uint8Array(await (await fetch(url)).arrayBuffer())
  expect(Buffer.compare(whole, await readFile(await diskImage('boot-sector', 'raw')))).toBe(0)
})

test("Debian's docker-registry starts on an empty folder", async () => {
  await using registry = await startDockerRegistry()
  const catalog = await fetch(`${registry.url}/v2/_catalog`)
  expect(await catalog.json()).toEqual({ repositories: [] })
})

test('the misbehaving server cuts bodies short and counts requests', async () => {
  const body = bootSectorDisk({ size: 64 * 1024 })
  await using server = await startMisbehavingServer(body)
  const cut = await fetch(server.url('truncated'))
  expect(cut.headers.get('content-length')).toBe(String(body.length))
  await expect(cut.arrayBuffer()).rejects.toThrow('terminated')
  await expect((await fetch(server.url('cut-once'))).arrayBuffer()).rejects.toThrow('terminated')
  const rest = await fetch(server.url('cut-once'), { headers: { range: 'bytes=100-' } })
  expect(rest.status).toBe(206)
  expect(Buffer.from(await rest.arrayBuffer()).equals(body.subarray(100))).toBe(true)
  expect(server.requests('cut-once')).toBe(2)
})

test('clients refuse the self-signed server and the closed port', async () => {
  await using server = await startSelfSignedServer(Buffer.from('x'))
  await expect(fetch(server.url('good'))).rejects.toMatchObject({
    cause: { code: 'DEPTH_ZERO_SELF_SIGNED_CERT' },
  })
  await expect(fetch(await refusingUrl())).rejects.toMatchObject({
    cause: { code: 'ECONNREFUSED' },
  })
})
