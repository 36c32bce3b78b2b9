import { execa } from 'execa'
import { appendFile, open, readFile, stat, writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { refusalIn } from '../test/fixtures/refusal.ts'
import { runConfined } from './confined-program.ts'
import { confirmQcow2 } from './second-opinion.ts'
import { qemuImg, scratchFolder } from './qemu-oracle.ts'

const mib = 1024 * 1024
const { signal } = new AbortController()
let folder: Awaited<ReturnType<typeof scratchFolder>>
beforeAll(async () => {
  folder = await scratchFolder()
})
afterAll(() => folder[Symbol.asyncDispose]())

/** A qcow2 of 1 MiB made by qemu-img, in a file with other bytes before and zeros behind. */
async function stored(name: string, ...options: readonly string[]) {
  const image = folder.file(name)
  await qemuImg('create', '-q', '-f', 'qcow2', ...options, image, '1M')
  return wrapped(name, await readFile(image))
}

async function wrapped(name: string, image: Buffer) {
  const path = folder.file(`${name}.tar`)
  await writeFile(path, Buffer.concat([Buffer.alloc(4096, 'x'), image, Buffer.alloc(2048)]))
  return { file: { path, start: 4096 }, fileSize: image.length, virtualSize: mib }
}

const reasonOf = (image: Parameters<typeof confirmQcow2>[0]): Promise<string> =>
  confirmQcow2(image, { signal }).then(
    () => 'confirmed',
    (error: unknown) => String(error),
  )

describe('qemu-img', () => {
  test('agrees with a qcow2 somewhere in a file, and nobody is asked where there is none', async () => {
    expect(await reasonOf(await stored('plain'))).toBe('confirmed')
    expect(await reasonOf({ file: undefined, fileSize: 1, virtualSize: 1 })).toBe('confirmed')
  })

  test('that says anything else makes it a refusal', async () => {
    const plain = await stored('said')
    expect(await reasonOf({ ...plain, virtualSize: 2 * mib })).toMatch(/1048576 bytes.*and we 2097/)
    const raw = await wrapped('raw', Buffer.alloc(mib, 'no header'))
    expect(await reasonOf(raw)).toMatch(/does not open it: "Image is not in qcow2 format"/)
    expect(await refusalIn(confirmQcow2(raw, { signal }))).toBe('IMAGE_UNSAFE')
  })

  test('opens nothing that the image names: a pipe there would keep it waiting', async () => {
    const pipe = folder.file('pipe')
    await execa('sh', ['-c', 'mkfifo "$1"', 'sh', pipe])
    const backed = await stored('backed', '-u', '-b', pipe, '-F', 'raw')
    expect(await reasonOf(backed)).toMatch(/finds a backing file/)
    const json = `json:{"driver":"file","filename":"${pipe}"}`
    const probed = await stored('probed', '-u', '-b', json, '-F', 'raw')
    expect(await reasonOf(probed)).toMatch(/finds a backing file/)
    const data = folder.file('data')
    const image = folder.file('split')
    await qemuImg('create', '-q', '-f', 'qcow2', '-o', `data_file=${data}`, image, '1M')
    await execa('sh', ['-c', 'rm "$1" && mkfifo "$1"', 'sh', data])
    const split = await wrapped('split', await readFile(image))
    expect(await reasonOf(split)).toMatch(/external data file/)
  })

  test('that crashes refuses the image', async () => {
    // Encryption method 2 without its header: qemu-img 7.2 ends with a fault of memory.
    const image = await readFile((await stored('crash')).file.path)
    const bytes = image.subarray(4096, -2048)
    bytes.writeUInt32BE(2, 32)
    expect(await reasonOf(await wrapped('crash', bytes))).toMatch(
      /does not survive it \(SIG\w+\)|does not open it/,
    )
  })
})

describe('a confined program', () => {
  const limits = { wallMs: 10_000, cpuSeconds: 5, memoryBytes: 1024 ** 3, outputBytes: 100_000 }
  const shell = (script: string, change = {}) =>
    runConfined(['sh', '-c', script], {
      stdin: 'ignore',
      limits: { ...limits, ...change },
      signal,
    })

  test('has no environment, no network, no file but its input, and writes none', async () => {
    process.env['DVCR_TEST_SECRET'] = 'secret'
    const { output } = await shell('env; echo; ls /proc/self/fd; echo; cat /proc/net/dev')
    delete process.env['DVCR_TEST_SECRET']
    expect(output).not.toContain('secret')
    const [variables = '', files = '', devices = ''] = output.split('\n\n')
    expect(variables.split('\n').map((line) => line.split('=')[0])).toEqual(
      expect.arrayContaining(['PATH', 'LC_ALL']),
    )
    // 3 is the folder that is listed.
    expect(files.trim().split('\n')).toEqual(['0', '1', '2', '3'])
    expect(devices).not.toMatch(/^\s*(?:eth|en|wl)/m)
    const path = folder.file('written')
    expect(await shell(`echo too much > '${path}'`)).not.toMatchObject({ exitCode: 0 })
    await appendFile(path, '')
    expect((await stat(path)).size).toBe(0)
  })

  test('dies of its limits, and its end is told', async () => {
    const late = await shell('sleep 60 | cat', { wallMs: 100 })
    expect(late.killedBy).toBe('it ran longer than 0.1 s')
    const loud = await shell('yes')
    expect(loud.killedBy).toBe('it wrote more than 100000 bytes')
    expect(loud.output.length).toBeLessThanOrEqual(100_000)
    const busy = await shell('while :; do :; done', { cpuSeconds: 1, wallMs: 60_000 })
    expect(busy.killedBy).toMatch(/^SIG(?:XCPU|KILL)$/)
    const big = await shell('head -c 300M /dev/zero | tail -n 1 | wc -c', {
      memoryBytes: 50 * 1024 * 1024,
    })
    expect(big.output.trim()).not.toBe(String(300 * mib))
  })

  test('that is not there ends with 127; what is cancelled is told with its reason', async () => {
    const absent = await runConfined(['no-such-program'], { stdin: 'ignore', limits, signal })
    expect(absent.exitCode).toBe(127)
    const stop = new AbortController()
    const running = runConfined(['sleep', '60'], { stdin: 'ignore', limits, signal: stop.signal })
    stop.abort(new Error('enough'))
    await expect(running).rejects.toThrow('enough')
  })

  test('reads the file that it is given', async () => {
    await writeFile(folder.file('given'), 'given to it')
    await using file = await open(folder.file('given'))
    const { output } = await runConfined(['cat'], { stdin: file.fd, limits, signal })
    expect(output).toBe('given to it')
  })
})
