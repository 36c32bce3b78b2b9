/** Where a partition type says which machine the disk is for: an OCI architecture. */
const roots: Readonly<Record<string, string>> = {
  '44479540-f297-41b2-9af7-d131d5f0458a': '386',
  '4f68bce3-e8cd-4db1-96e7-fbcaf984b709': 'amd64',
  '69dad710-2ce4-4e3c-b16c-21a1d49abed3': 'arm',
  'b921b045-1df0-41c3-af44-4c6f280d3fae': 'arm64',
  '77055800-792c-4f94-b39a-98c91b762bb6': 'loong64',
  '912ade1d-a839-4913-8964-a10eee08fbd2': 'ppc64',
  'c31c45e6-3f39-412e-80fb-4809c4980599': 'ppc64le',
  '72ec70a6-cf74-40e6-bd49-4bda08e8f224': 'riscv64',
  '5eead9a9-fe09-4a1e-a1d7-520d00531306': 's390x',
}

const others: Readonly<Record<string, string>> = {
  'c12a7328-f81f-11d2-ba4b-00a0c93ec93b': 'esp',
  '21686148-6449-6e6f-744e-656564454649': 'bios-boot',
  '0fc63daf-8483-4772-8e79-3d69d8477de4': 'linux',
  '0657fd6d-a4ab-43c4-84e5-0933c84b4f4f': 'swap',
  'e6d6d379-f507-44c2-a23c-238f2a3df928': 'lvm',
  'a19d880f-05fc-4d3b-a006-743f0f84911e': 'raid',
  'bc13c2ff-59e6-4262-a352-b275fd6f7172': 'boot',
  '933ac7e1-2eb4-4f13-b844-0e14e2aef915': 'home',
  '9e1a2d38-c612-4316-aa26-8b49521e5a8b': 'prep',
  'e3c9e316-0b5c-4db8-817d-f92df00215ae': 'msr',
  'ebd0a0a2-b9e5-4433-87c0-68b6b72699c7': 'basic-data',
}

const rootPrefix = 'root-'

/** A short name where there is one: `esp`, `linux`, `root-arm64`. @see Discoverable Partitions Specification */
export function gptTypeName(guid: string): string {
  const architecture = roots[guid]
  return architecture === undefined ? (others[guid] ?? guid) : rootPrefix + architecture
}

/** The machine that a partition of this type is the root of. */
export function architectureOfType(type: string): string | undefined {
  return type.startsWith(rootPrefix) ? type.slice(rootPrefix.length) : undefined
}
