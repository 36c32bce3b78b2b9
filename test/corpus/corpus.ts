import type { CorpusFile } from './corpus-file.ts'
import { otherFiles } from './other-files.ts'
import { packedFiles } from './packed-files.ts'
import { qcow2Headers, qcow2Wholes } from './qcow2-header-files.ts'
import { qcow2Tables } from './qcow2-table-files.ts'
import { vdiFiles, vhdFiles } from './vdi-vhd-files.ts'
import { vhdxFiles } from './vhdx-files.ts'
import { vmdkFiles, vmdkWholes } from './vmdk-files.ts'
import { vmdkFooters } from './vmdk-footer-files.ts'

/** Files that are good, strange or hostile, by what they are; all made here. */
export const corpus: Readonly<Record<string, readonly CorpusFile[]>> = {
  'qcow2: the header': [...qcow2Wholes, ...qcow2Headers],
  'qcow2: tables and data': qcow2Tables,
  VMDK: [...vmdkWholes, ...vmdkFiles, ...vmdkFooters],
  VDI: vdiFiles,
  VHD: vhdFiles,
  VHDX: vhdxFiles,
  'Raw disks, ISO and what is no disk': otherFiles,
  'Compressed, and appliances': packedFiles,
}
