import { afterAll, beforeAll } from 'vitest'
import { dataStoreContract } from '../data-store-contract.ts'
import { startMinio } from '../fixtures/minio.ts'
import { openTempS3Store, type S3Server } from '../fixtures/s3-server.ts'
import { startVersitygw } from '../fixtures/versitygw.ts'
import { objectStoreContract } from '../object-store-contract.ts'
import { isNightly } from './nightly.ts'

storeContracts('S3 on versitygw', startVersitygw)
if (isNightly) storeContracts('S3 on MinIO', startMinio)

function storeContracts(name: string, start: () => Promise<S3Server>): void {
  let server: S3Server
  beforeAll(async () => {
    server = await start()
  })
  afterAll(() => server[Symbol.asyncDispose]())
  objectStoreContract(name, () => openTempS3Store(server))
  dataStoreContract(name, () => openTempS3Store(server))
}
