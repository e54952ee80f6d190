/** Numbers as people read them. Credits are decimal text and stay exact. */
import { language } from './text.mjs'

export function score(value) {
  return typeof value === 'number' && Number.isFinite(value) ? value.toFixed(2) : '–'
}

export function seconds(value) {
  if (typeof value !== 'number' || !Number.isFinite(value)) return ''
  return `${value.toFixed(value >= 10 ? 0 : 1)}\u00a0s`
}

/** A price (decimal text) times a whole number, exactly: times("0.10", 3) is "0.30". */
export const times = (price, count) => sum(Array(count).fill(price))

/** The exact sum of decimal texts; what is no amount is left out. */
export function sum(amounts) {
  const known = amounts.filter((amount) => /^\d+(\.\d+)?$/.test(String(amount ?? '')))
  const places = Math.max(0, ...known.map((amount) => (String(amount).split('.')[1] ?? '').length))
  const scaled = known.map((amount) => {
    const [whole, fraction = ''] = String(amount).split('.')
    return BigInt(whole + fraction.padEnd(places, '0'))
  })
  if (!known.length) return ''
  const digits = String(scaled.reduce((all, one) => all + one)).padStart(places + 1, '0')
  return places ? `${digits.slice(0, -places)}.${digits.slice(-places)}` : digits
}

/** How long ago, in the page's language. */
export function ago(then, now = Date.now()) {
  const format = new Intl.RelativeTimeFormat(language, { numeric: 'auto', style: 'short' })
  const gone = Math.max(0, Math.round((now - then) / 1000))
  const [unit, size] = [['day', 86400], ['hour', 3600], ['minute', 60], ['second', 1]].find(([, each]) => gone >= each) ?? ['second', 1]
  return format.format(-Math.floor(gone / size), unit)
}
