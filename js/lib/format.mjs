/** Numbers as people read them. Credits are decimal text and stay exact. */
import { has, language, t } from './text.mjs'

/** @param {number | null | undefined} value */
export function score(value) {
  return typeof value === 'number' && Number.isFinite(value) ? value.toFixed(2) : '–'
}

/** @param {number | null | undefined} value */
export function seconds(value) {
  if (typeof value !== 'number' || !Number.isFinite(value)) return ''
  return `${value.toFixed(value >= 10 ? 0 : 1)}\u00a0s`
}

/**
 * The exact sum of decimal texts; what is no amount is left out, "" where nothing is one.
 * @param {unknown[]} amounts
 */
export function sum(amounts) {
  const known = amounts
    .map(String)
    .filter((amount) => /^\d+(\.\d+)?$/.test(amount))
    .map((amount) => amount.split('.'))
  if (!known.length) return ''
  const places = Math.max(...known.map(([, fraction = '']) => fraction.length))
  const total = known.reduce(
    (before, [whole, fraction = '']) => before + BigInt(whole + fraction.padEnd(places, '0')),
    0n
  )
  const digits = String(total).padStart(places + 1, '0')
  return places ? `${digits.slice(0, -places)}.${digits.slice(-places)}` : digits
}

/** @param {string} amount decimal text @param {number} count a whole number */
export const times = (amount, count) => sum(Array(count).fill(amount))

/** @type {[Intl.RelativeTimeFormatUnit, number][]} */
const UNITS = [
  ['day', 86400],
  ['hour', 3600],
  ['minute', 60],
  ['second', 1]
]

/**
 * Who judged, in words; a model by its name and where it is. "" where nobody knows the judge.
 * @param {{judge?: string, judged_by?: string, practice?: boolean}} item `judged_by` as Python says it: "NAME on this machine", "NAME at HOST"
 */
export function judgedBy({ judge = '', judged_by: who = '', practice = false }) {
  if (practice) return t('judge.practice')
  const [, name, host] = /^(.+?)(?: on this machine| at (\S+))$/.exec(who) ?? []
  if (judge === 'model' && host) return t('judge.model_at', { name, host })
  if (judge === 'model' && name) return t('judge.model_named', { name })
  return judge && has(`judge.${judge}`) ? t(`judge.${judge}`) : ''
}

/** How long ago, in the page's language. @param {number} then milliseconds since 1970 */
export function ago(then, now = Date.now()) {
  const format = new Intl.RelativeTimeFormat(language, { numeric: 'auto', style: 'short' })
  const gone = Math.max(0, Math.round((now - then) / 1000))
  const [unit, size] = UNITS.find(([, each]) => gone >= each) ?? UNITS[3]
  return format.format(-Math.floor(gone / size), unit)
}
