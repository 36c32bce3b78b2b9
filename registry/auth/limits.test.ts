import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { CodedError } from '../../core/errors.ts'
import { createClientAddresses } from './client-address.ts'
import { addressName, createRequestLimit, createTokenBuckets } from './limits.ts'

describe('token buckets', () => {
  it('let a burst through, then as many as come back', () => {
    let nowMs = 5000
    const buckets = createTokenBuckets({ perSecond: 2, burst: 3 }, () => nowMs)
    expect([buckets.take('a'), buckets.take('a'), buckets.take('a')]).toEqual([0, 0, 0])
    expect(buckets.take('a')).toBeCloseTo(0.5)
    expect(buckets.take('b')).toBe(0)
    nowMs += 500
    expect(buckets.take('a')).toBe(0)
    expect(buckets.take('a')).toBeGreaterThan(0)
    nowMs += 60_000
    expect([1, 2, 3].map(() => buckets.take('a'))).toEqual([0, 0, 0])
    expect(buckets.take('a')).toBeGreaterThan(0)
    buckets.giveBack('a')
    expect(buckets.take('a')).toBe(0)
  })

  it('never let more through than the rate and one burst', () => {
    const steps = fc.array(fc.record({ afterMs: fc.nat(2000), takes: fc.nat(10) }))
    fc.assert(
      fc.property(steps, (steps) => {
        let nowMs = 0
        let taken = 0
        const buckets = createTokenBuckets({ perSecond: 5, burst: 7 }, () => nowMs)
        for (const { afterMs, takes } of steps) {
          nowMs += afterMs
          for (let index = 0; index < takes; index += 1) taken += buckets.take('a') === 0 ? 1 : 0
          expect(taken).toBeLessThanOrEqual(7 + (nowMs / 1000) * 5)
        }
      }),
    )
  })
})

describe('a request limit', () => {
  const retryAfter = (run: () => unknown): unknown => {
    try {
      run()
      return undefined
    } catch (error) {
      return error instanceof CodedError && error.code === 'TOOMANYREQUESTS'
        ? error.detail?.['retryAfterSeconds']
        : error
    }
  }

  it('counts what is at work, by name', () => {
    const limit = createRequestLimit({ requestsPerSecond: 100, burst: 100, concurrent: 2 })
    const leave = limit.enter('a')
    limit.enter('a')
    expect(retryAfter(() => limit.enter('a'))).toBe(1)
    limit.enter('b')
    leave()
    leave()
    limit.enter('a')
    expect(retryAfter(() => limit.enter('a'))).toBe(1)
  })

  it('says after how many seconds to come back', () => {
    const limit = createRequestLimit({ requestsPerSecond: 0.2, burst: 1, concurrent: 10 })
    limit.enter('a')()
    expect(retryAfter(() => limit.enter('a'))).toBe(5)
  })
})

it('an address is named by what one client gets', () => {
  expect(addressName('10.1.2.3')).toBe('10.1.2.3')
  expect(addressName('2001:db8:1:2:3:4:5:6')).toBe('2001:db8:1:2::/64')
  expect(addressName('2001:DB8:1:2::9')).toBe('2001:db8:1:2::/64')
  expect(addressName('2001:db8::1')).toBe('2001:db8:0:0::/64')
  expect(addressName('::1')).toBe('0:0:0:0::/64')
  expect(addressName('fe80::1%eth0')).toBe('fe80:0:0:0::/64')
  expect(addressName('unknown')).toBe('unknown')
})

describe('the address of a client', () => {
  const addresses = createClientAddresses(['10.0.0.0/8', '192.168.1.1', 'fd00::/8'])

  it('is that of the connection, unless a trusted proxy is there', () => {
    expect(addresses.of('203.0.113.9', '198.51.100.1')).toBe('203.0.113.9')
    expect(addresses.of('10.0.0.1', '198.51.100.1')).toBe('198.51.100.1')
    expect(addresses.of('fd00::1', '198.51.100.1, 10.0.0.2, ::ffff:192.168.1.1')).toBe(
      '198.51.100.1',
    )
    expect(addresses.of('::ffff:10.0.0.1', '2001:db8::1')).toBe('2001:db8::1')
    expect(addresses.of('10.0.0.1', undefined)).toBe('10.0.0.1')
    expect(addresses.of(undefined, undefined)).toBe('unknown')
  })

  it('is never what a stranger says of itself', () => {
    expect(addresses.of('10.0.0.1', '1.1.1.1, 198.51.100.1')).toBe('198.51.100.1')
    expect(addresses.of('10.0.0.1', '1.1.1.1, nonsense')).toBe('10.0.0.1')
    expect(createClientAddresses([]).of('10.0.0.1', '1.1.1.1')).toBe('10.0.0.1')
  })
})
