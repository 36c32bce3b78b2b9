import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { mountSmallDisk } from '../fixtures/small-disk.ts'

test('a small disk takes what fits and then says it is full', async () => {
  await using disk = await mountSmallDisk(1024 * 1024)
  await writeFile(join(disk.path, 'fits'), Buffer.alloc(512 * 1024))
  const tooMuch = writeFile(join(disk.path, 'too-much'), Buffer.alloc(1024 * 1024))
  await expect(tooMuch).rejects.toMatchObject({ code: 'ENOSPC' })
})
