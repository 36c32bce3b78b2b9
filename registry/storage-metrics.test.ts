import { Registry } from '@prometheus-io/client'
import { expect, it } from 'vitest'
import { createHashPool } from '../core/hash-pool.ts'
import { createTempFolder } from '../test/fixtures/temp-folder.ts'
import { measureStorage } from './storage-metrics.ts'
import { openFolderStore } from './stores/folder.ts'

it('counts what is done to the storage, by outcome', async () => {
  await using folder = await createTempFolder()
  await using hashPool = createHashPool({ threads: 1 })
  const registry = new Registry()
  const storage = await openFolderStore(folder.path, { hashPool })
  await using measured = measureStorage(storage, registry)
  const { objects } = measured
  const bytes = Buffer.from('x')
  await objects.put('v1/a', bytes, 'ifAbsent')
  expect(await objects.put('v1/a', bytes, 'ifAbsent')).toBeUndefined()
  expect((await objects.get('v1/a'))?.bytes).toEqual(bytes)
  expect(await objects.list('v1/', {})).toEqual(['v1/a'])
  await expect(objects.get('../outside')).rejects.toThrow('not a storage key')
  const text = await registry.metrics()
  const count = (operation: string, outcome: string) =>
    new RegExp(`operations_total\\{operation="${operation}",outcome="${outcome}"\\} (\\d+)`).exec(
      text,
    )
  expect(count('put', 'ok')?.[1]).toBe('1')
  expect(count('put', 'refused')?.[1]).toBe('1')
  expect(count('get', 'ok')?.[1]).toBe('1')
  expect(count('get', 'failed')?.[1]).toBe('1')
  expect(count('list', 'ok')?.[1]).toBe('1')
  expect(text).toContain('dvcr_storage_operation_duration_seconds_count{operation="put"} 2')
})
