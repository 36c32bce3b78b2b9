import { expect, test } from 'vitest'
import { planStorage } from './plan.ts'

test.each([
  ['qcow2', 'auto', 'copy', 'disk.qcow2'],
  ['qcow2', 'as-is', 'copy', 'disk.qcow2'],
  ['iso', 'auto', 'copy', 'disk.iso'],
  ['iso', 'as-is', 'copy', 'disk.iso'],
  ['raw', 'auto', 'encode', 'disk.qcow2'],
  ['raw', 'as-is', 'copy', 'disk.img'],
] as const)('%s, %s: %s as %s', (format, mode, how, fileName) => {
  const plan = planStorage({ format }, mode)
  expect(plan).toMatchObject({ how, fileName })
  expect(plan.storedFormat).toBe(how === 'encode' ? 'qcow2' : format)
  // Only raw is larger on every node than it has to be.
  expect(plan.warning === undefined).toBe(fileName !== 'disk.img')
})

const unclean = 'it holds 3 internal snapshots'

test.each([
  { format: 'vmdk' },
  { format: 'vdi' },
  { format: 'vhd' },
  { format: 'vhdx' },
  { format: 'qcow2', unclean },
] as const)('$format is rewritten, and never stored as it is', (disk) => {
  expect(planStorage(disk, 'auto')).toMatchObject({ how: 'encode', fileName: 'disk.qcow2' })
  const asIs = (): unknown => planStorage(disk, 'as-is')
  expect(asIs).toThrow(expect.objectContaining({ code: 'FORMAT_UNSUPPORTED' }))
  expect(asIs).toThrow(/--store as-is/)
})
