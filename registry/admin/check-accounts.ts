import { keys, prefixOfQuotaKey } from '../keys.ts'
import { accountRecord } from '../quota.ts'
import type { CheckParts } from './check-blobs.ts'
import { finding, type Finding } from './findings.ts'
import { see } from './see.ts'
import { readAllLinks } from './usage.ts'

/** The accounts of quotas as stored: what each says is used, with its version. */
async function readAccounts(parts: CheckParts) {
  const found: Finding[] = []
  const accounts = new Map<
    string,
    { readonly prefix: string; readonly used: number; readonly rev: number }
  >()
  for (const key of await parts.objects.list(keys.quotas, {})) {
    const prefix = prefixOfQuotaKey(key)
    const { record, damage } = await see(parts, accountRecord, key)
    if (damage) found.push(damage)
    else if (prefix === undefined) found.push(finding('key-unknown', key, 'no account of a quota'))
    else if (record) accounts.set(key, { prefix, used: record.used, rev: record.rev })
  }
  return { accounts, found }
}

/**
 * Every account says what the links below its prefix have together. Of one that changes while they
 * are read nothing can be said; it is not a finding.
 */
export async function checkAccounts(parts: CheckParts): Promise<Finding[]> {
  const { accounts, found } = await readAccounts(parts)
  if (accounts.size === 0) return found
  const sums = new Map<string, number>()
  let isKnown = true
  for await (const { name, size } of readAllLinks(parts.objects, () => (isKnown = false))) {
    parts.signal.throwIfAborted()
    for (const [key, { prefix }] of accounts) {
      if (name.startsWith(prefix)) sums.set(key, (sums.get(key) ?? 0) + size)
    }
  }
  // Nobody knows how many bytes a damaged link stands for.
  if (!isKnown) return found
  const { accounts: after } = await readAccounts(parts)
  for (const [key, { prefix, used, rev }] of accounts) {
    const linked = sums.get(key) ?? 0
    if (linked === used || after.get(key)?.rev !== rev) continue
    const where = prefix === '' ? 'all repositories' : `repositories below ${prefix}`
    found.push(finding('quota-differs', key, `it says ${used} bytes; ${where} link ${linked}`))
  }
  return found
}
