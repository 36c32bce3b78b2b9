import { encoderVersion } from '../converter/qcow2-encoder.ts'
import type { LayerWriter } from './layer-writer.ts'
import type { PackKeeper, PackState } from './pack.ts'

/** Writes down how far a layer is, while it goes on. */
export interface Keeping {
  /** True where the time has come, `bytes` after the last `save`. */
  isDue(bytes: number): boolean
  /** Resolves when the layer may be written again. Nothing is lost where what follows then fails. */
  save(state: Pick<PackState, 'position' | 'encoder'>): Promise<void>
  /** Ends what is at work. */
  stop(): Promise<void>
}

/** Without a keeper nothing is ever due. */
export function createKeeping(layer: LayerWriter, keeper: PackKeeper | undefined): Keeping {
  const stopping = new AbortController()
  let isOver = keeper === undefined
  let atWork: Promise<void> | undefined

  return {
    isDue: (bytes) => !isOver && !atWork && keeper !== undefined && bytes >= keeper.everyBytes,
    async save(state) {
      // Asked for before the one before had begun.
      await atWork
      if (isOver) return
      const finish = await layer.checkpoint()
      const work = async (): Promise<void> => {
        const kept = await finish(stopping.signal)
        await keeper?.save({ ...state, layer: kept, version: encoderVersion })
        atWork = undefined
      }
      // The keeper has said why. A state that lacks the one before is of no use: this was the last.
      atWork = work().catch(() => void (isOver = true))
    },
    async stop() {
      isOver = true
      stopping.abort()
      await atWork
    },
  }
}
