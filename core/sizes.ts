import { CodedError } from './errors.ts'

const units = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi'] as const

/** Bytes of `10Gi`, `512M`, `4096`, … (Kubernetes quantities). Throws REQUEST_INVALID. */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*(?:([KMGTP])(i?)B?|B)?$/i.exec(text.trim())
  if (!match) {
    throw new CodedError(
      'REQUEST_INVALID',
      `not a size: ${JSON.stringify(text)}; write 10Gi or 4096`,
    )
  }
  const power = match[2] === undefined ? 0 : 'KMGTP'.indexOf(match[2].toUpperCase()) + 1
  const bytes = Math.round(Number(match[1]) * (match[3] ? 1024 : 1000) ** power)
  if (!Number.isSafeInteger(bytes))
    throw new CodedError('SIZE_EXCEEDED', `size ${text} is too large`)
  return bytes
}

/** `1.4 GiB`, for people. */
export function formatSize(bytes: number): string {
  let unit = 0
  let value = bytes
  // 1023.96 would be shown as 1024.0.
  while (value >= 1023.95 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  return unit === 0 ? `${bytes} B` : `${value.toFixed(value < 10 ? 2 : 1)} ${units[unit]}B`
}

const unitsMs: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
}

/** Milliseconds of `10m`, `1h30m`, `30d`, `500ms` or `0`. Throws REQUEST_INVALID. */
export function parseDuration(text: string): number {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|[smhd])/g)]
  const total = parts.reduce(
    (sum, [, count, unit = '']) => sum + Number(count) * (unitsMs[unit] ?? 0),
    0,
  )
  const isWhole = parts.map(([part]) => part).join('') === text && text !== ''
  if (isWhole && Number.isSafeInteger(Math.round(total))) return Math.round(total)
  if (text === '0') return 0
  throw new CodedError(
    'REQUEST_INVALID',
    `not a duration: ${JSON.stringify(text)}; write 10m, 1h30m or 30d`,
  )
}

/** `1h02m`, `3m10s` or `4.2s`, for people. */
export function formatDuration(ms: number): string {
  const seconds = ms / 1000
  if (seconds < 59.95) return `${seconds.toFixed(1)}s`
  const whole = Math.round(seconds)
  const pad = (value: number): string => String(value).padStart(2, '0')
  if (whole < 3600) return `${Math.floor(whole / 60)}m${pad(whole % 60)}s`
  return `${Math.floor(whole / 3600)}h${pad(Math.floor((whole % 3600) / 60))}m`
}
