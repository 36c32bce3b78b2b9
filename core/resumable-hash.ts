import { createHash } from 'node:crypto'
import koffi from 'koffi'

/** A digest on its way that can be put away as text and taken up by another process. */
export interface ResumableHash {
  update(bytes: Uint8Array): void
  /**
   * The same in Node's thread pool. Until it resolves `bytes` must stay as they are and nothing
   * else may be asked of this hash.
   */
  updateAside(bytes: Uint8Array): Promise<void>
  /**
   * State after all bytes so far; the hash goes on. The same text on every platform:
   * `<algorithm>:<bytes>:<chaining words, big-endian hex>:<bytes of the last block, base64>`.
   */
  save(): string
  /** Lower-case hex; ends the hash. */
  digest(): string
  /** For `updateContext` in another thread; nothing else may be asked of this hash meanwhile. */
  readonly context: SharedArrayBuffer
}

export type HashAlgorithm = 'md5' | 'sha1' | 'sha256' | 'sha512'

/** OpenSSL's `MD5_CTX`, `SHA_CTX`, `SHA256_CTX` and `SHA512_CTX`, as they are since version 0.9.8. */
interface Layout {
  /** Chaining words. */
  readonly words: 4 | 5 | 8
  readonly wordBytes: 4 | 8
  readonly blockBytes: 64 | 128
  readonly functions: 'MD5' | 'SHA1' | 'SHA256' | 'SHA512'
}

const layouts: Record<HashAlgorithm, Layout> = {
  md5: { words: 4, wordBytes: 4, blockBytes: 64, functions: 'MD5' },
  sha1: { words: 5, wordBytes: 4, blockBytes: 64, functions: 'SHA1' },
  sha256: { words: 8, wordBytes: 4, blockBytes: 64, functions: 'SHA256' },
  sha512: { words: 8, wordBytes: 8, blockBytes: 128, functions: 'SHA512' },
}

type Update = ((context: Uint8Array, bytes: Uint8Array, size: number) => unknown) & {
  async(
    context: Uint8Array,
    bytes: Uint8Array,
    size: number,
    done: (error: unknown, result: unknown) => void,
  ): void
}

interface Native {
  readonly layout: Layout
  init(context: Uint8Array): unknown
  readonly update: Update
  final(digest: Uint8Array, context: Uint8Array): unknown
}

/** Below it the way to the thread pool takes longer than the work. */
const asideBytes = 64 * 1024
/** What the thread pool works on; a pointer to it keeps nothing from being collected. */
const atWork = new Set<readonly Uint8Array[]>()
const natives = new Map<HashAlgorithm, Native | undefined>()

/**
 * A hash of nothing, or of what `from` stands for, as fast as node:crypto: the functions are those
 * of the OpenSSL that is part of the node binary. `undefined` where this platform has none that
 * agree with node:crypto, or `from` is not a state of `algorithm`. `docs/decisions/013-hash-state.md`
 */
export function createResumableHash(
  algorithm: HashAlgorithm,
  from?: string,
): ResumableHash | undefined {
  const native = nativeOf(algorithm)
  return native && createNativeHash(algorithm, native, from)
}

/**
 * Does what `update` does, in any thread, to the hash that `context` is of. `bytes` may be shared.
 * Throws where `createResumableHash` answers `undefined`.
 */
export function updateContext(
  algorithm: HashAlgorithm,
  context: SharedArrayBuffer,
  bytes: Uint8Array,
): void {
  const native = nativeOf(algorithm)
  if (!native) throw new Error(`no resumable ${algorithm} on this platform`)
  native.update(new Uint8Array(context), bytes, bytes.length)
}

function nativeOf(algorithm: HashAlgorithm): Native | undefined {
  if (!natives.has(algorithm)) natives.set(algorithm, loadTested(algorithm))
  return natives.get(algorithm)
}

function createNativeHash(
  algorithm: HashAlgorithm,
  native: Native,
  from: string | undefined,
): ResumableHash | undefined {
  const context = createContext(native)
  if (from !== undefined && !context.load(algorithm, from)) return undefined
  return {
    context: context.shared,
    update: (bytes) => void native.update(context.memory, bytes, bytes.length),
    updateAside(bytes) {
      if (bytes.length < asideBytes) {
        native.update(context.memory, bytes, bytes.length)
        return Promise.resolve()
      }
      const used = [context.memory, bytes]
      atWork.add(used)
      return new Promise((resolve, reject) => {
        native.update.async(context.memory, bytes, bytes.length, (error) => {
          atWork.delete(used)
          if (error === null || error === undefined) resolve()
          else reject(new Error('cannot hash in the thread pool', { cause: error }))
        })
      })
    },
    save: () => context.save(algorithm),
    digest() {
      const digest = Buffer.alloc(native.layout.words * native.layout.wordBytes)
      native.final(digest, context.memory)
      return digest.toString('hex')
    },
  }
}

/** The struct: words, length in bits (low and high half), block, bytes in the block, digest length. */
function createContext(native: Native) {
  const { words, wordBytes, blockBytes } = native.layout
  const blockAt = (words + 2) * wordBytes
  const shared = new SharedArrayBuffer(blockAt + blockBytes + 8)
  const memory = Buffer.from(shared)
  const view = new DataView(memory.buffer, memory.byteOffset, memory.length)
  const isLittle = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1
  const bits = 8 * wordBytes
  native.init(memory)

  const word = (index: number): bigint =>
    wordBytes === 4
      ? BigInt(view.getUint32(index * 4, isLittle))
      : view.getBigUint64(index * 8, isLittle)
  const setWord = (index: number, value: bigint): void => {
    if (wordBytes === 4) view.setUint32(index * 4, Number(value), isLittle)
    else view.setBigUint64(index * 8, value, isLittle)
  }

  return {
    shared,
    memory,
    save(algorithm: HashAlgorithm): string {
      const hex = Array.from({ length: words }, (_, index) =>
        word(index)
          .toString(16)
          .padStart(bits / 4, '0'),
      )
      const bytes = ((word(words + 1) << BigInt(bits)) | word(words)) / 8n
      const block = memory.subarray(blockAt, blockAt + Number(bytes % BigInt(blockBytes)))
      return `${algorithm}:${bytes}:${hex.join('')}:${block.toString('base64')}`
    },
    /** False where it is not such a state; the context is then of no use. */
    load(algorithm: HashAlgorithm, state: string): boolean {
      const [name, count = '', hex = '', base64 = ''] = state.split(':')
      if (name !== algorithm || !/^\d{1,16}$/.test(count) || !/^[0-9a-f]+$/.test(hex)) return false
      const block = Buffer.from(base64, 'base64')
      const bytes = BigInt(count)
      if (hex.length !== words * (bits / 4)) return false
      if (block.length !== Number(bytes % BigInt(blockBytes))) return false
      for (let index = 0; index < words; index++) {
        setWord(index, BigInt(`0x${hex.slice((index * bits) / 4, ((index + 1) * bits) / 4)}`))
      }
      setWord(words, BigInt.asUintN(bits, bytes * 8n))
      setWord(words + 1, (bytes * 8n) >> BigInt(bits))
      memory.set(block, blockAt)
      view.setUint32(blockAt + blockBytes, block.length, isLittle)
      return true
    },
  }
}

/** `undefined` where the functions are missing or do not agree with node:crypto. */
function loadTested(algorithm: HashAlgorithm): Native | undefined {
  try {
    const native = load(layouts[algorithm])
    return passesSelfTest(algorithm, native) ? native : undefined
  } catch {
    // A node without exported symbols, or a platform without koffi: bytes are read again instead.
    return undefined
  }
}

function load(layout: Layout): Native {
  const library = koffi.load(null)
  const name = layout.functions
  return {
    layout,
    init: library.func(`int ${name}_Init(void *context)`),
    update: library.func(`int ${name}_Update(void *context, void *bytes, size_t size)`),
    final: library.func(`int ${name}_Final(void *digest, void *context)`),
  }
}

/** Lengths around a block and its padding, put away and taken up again in the middle. */
function passesSelfTest(algorithm: HashAlgorithm, native: Native): boolean {
  const sample = Buffer.from(Array.from({ length: 1000 }, (_, at) => (at * 167 + 13) & 0xff))
  return [0, 1, 55, 63, 64, 111, 127, 128, 129, 300, 999].every((split) => {
    const first = createNativeHash(algorithm, native, undefined)
    first?.update(sample.subarray(0, split))
    const state = first?.save() ?? ''
    const second = createNativeHash(algorithm, native, state)
    for (const hash of [first, second]) {
      hash?.update(sample.subarray(split, split + 7))
      hash?.update(sample.subarray(split + 7))
    }
    const expected = createHash(algorithm).update(sample).digest('hex')
    return first?.digest() === expected && second?.digest() === expected
  })
}
