import { Counter, Histogram, type Registry } from '@prometheus-io/client'
import type { ObjectStore } from '../core/object-store.ts'
import type { DataStore, Storage } from './data-store.ts'

/** From a cached read to an S3 that is overloaded. */
const durationBuckets = [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60]

type Measure = <T>(operation: string, run: () => Promise<T>) => Promise<T>

/**
 * The same storage, its operations counted and timed. `refused` is a conditional write that found
 * another version: somebody was faster.
 */
export function measureStorage(storage: Storage, registry: Registry): Storage {
  const registers = [registry]
  const operations = new Counter({
    name: 'dvcr_storage_operations_total',
    help: 'Operations on the storage, by kind and outcome: ok, refused (a condition did not hold), failed.',
    labelNames: ['operation', 'outcome'],
    registers,
  })
  const durations = new Histogram({
    name: 'dvcr_storage_operation_duration_seconds',
    help: 'Time of operations on the storage.',
    labelNames: ['operation'],
    buckets: durationBuckets,
    registers,
  })
  const measure: Measure = async (operation, run) => {
    const stop = durations.startTimer({ operation })
    let outcome = 'failed'
    try {
      const result = await run()
      outcome = operation === 'put' && result === undefined ? 'refused' : 'ok'
      return result
    } finally {
      stop()
      operations.inc({ operation, outcome })
    }
  }
  return {
    ...storage,
    objects: measuredObjects(storage.objects, measure),
    data: measuredData(storage.data, measure),
    [Symbol.asyncDispose]: () => storage[Symbol.asyncDispose](),
  }
}

function measuredObjects(objects: ObjectStore, measure: Measure): ObjectStore {
  return {
    conditionalDelete: objects.conditionalDelete,
    get: (key) => measure('get', () => objects.get(key)),
    put: (key, bytes, condition) => measure('put', () => objects.put(key, bytes, condition)),
    list: (folder, options) => measure('list', () => objects.list(folder, options)),
    listFolders: (folder) => measure('list', () => objects.listFolders(folder)),
    delete: (key, condition) => measure('delete', () => objects.delete(key, condition)),
  }
}

/** Bytes are counted where clients send and take them; here it is what each object costs. */
function measuredData(data: DataStore, measure: Measure): DataStore {
  return {
    write: (uuid, options) => measure('data_open', () => data.write(uuid, options)),
    complete: (uuid, finished) => measure('data_complete', () => data.complete(uuid, finished)),
    read: (where, range, signal) => data.read(where, range, signal),
    delete: (where) => measure('data_delete', () => data.delete(where)),
    freeBytes: () => data.freeBytes(),
    redirect: (where, options) => data.redirect(where, options),
  }
}
