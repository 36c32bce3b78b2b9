import { randomBytes } from 'node:crypto'
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { digestOf } from '../core/digest.ts'
import { createHashPool } from '../core/hash-pool.ts'
import { createLog } from '../core/log.ts'
import { makeTempFolder } from '../test/fixtures/temp-folder.ts'
import { registryContract } from '../test/registry-contract.ts'
import { openStore, type Store } from './store.ts'

const log = createLog('silent')
const { signal } = new AbortController()

async function openTempStore(): Promise<Store> {
  const folder = await makeTempFolder()
  const hashPool = createHashPool({ threads: 1 })
  const store = await openStore(folder.path, { hashPool, log })
  return {
    ...store,
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]()
      await hashPool[Symbol.asyncDispose]()
      await folder[Symbol.asyncDispose]()
    },
  }
}

registryContract('a folder', openTempStore)
