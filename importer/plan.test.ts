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
  const plan = planStorage(format, mode)
  expect(plan).toMatchObject({ how, fileName })
  expect(plan.storedFormat).toBe(how === 'encode' ? 'qcow2' : format)
  // Only raw is larger on every node than it has to be.
  expect(plan.warning === undefined).toBe(fileName !== 'disk.img')
})

test.each(['vmdk', 'vdi', 'vhd', 'vhdx'] as const)('%s is known and refused', (format) => {
  for (const mode of ['auto', 'as-is'] as const) {
    const plan = (): unknown => planStorage(format, mode)
    expect(plan).toThrow(expect.objectContaining({ code: 'FORMAT_UNSUPPORTED' }))
    expect(plan).toThrow(/yet.*qemu-img convert/)
  }
})
