import { runCli } from './cli/program.ts'

for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: Error & { readonly code?: string }) => {
    // Who reads the output may stop reading, as `head` does: nothing is wrong with the command.
    if (error.code !== 'EPIPE') throw error
  })
}

process.exitCode = await runCli(process.argv, {
  env: process.env,
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
})
