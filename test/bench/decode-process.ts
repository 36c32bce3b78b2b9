import { spawn } from 'node:child_process'
import { createReadStream, openSync } from 'node:fs'
import { createGunzip, createZstdDecompress } from 'node:zlib'
import type { Bytes } from '../../core/streams.ts'
import { decompress } from '../../importer/decoders/decompress.ts'

// Decodes a file in one way, counts what comes out and prints that:
//   decode-process.ts dvcr|node|command PATH [PROGRAM ARGUMENTS…]
const [, , way, path = '', program = '', ...args] = process.argv
const pieceBytes = 1024 * 1024

async function open(): Promise<Bytes> {
  if (way === 'command') {
    const input = openSync(path, 'r')
    const child = spawn(program, args, { stdio: [input, 'pipe', 'inherit'] })
    child.once('exit', (code) => (process.exitCode = code ?? 1))
    if (child.stdout) return child.stdout
  }
  const file = createReadStream(path, { highWaterMark: pieceBytes })
  if (way === 'dvcr') return (await decompress(file, { maxVirtualSize: 2 ** 50 })).body
  const options = { chunkSize: pieceBytes }
  return file.pipe(path.endsWith('.gz') ? createGunzip(options) : createZstdDecompress(options))
}

let size = 0
for await (const chunk of await open()) size += chunk.length
console.log(size)
