/** Numbers as people read them. Credits are decimal text and stay exact. */
import { language } from './text.mjs'

export function score(value) {
  return Number.isFinite(value) ? value.toFixed(2) : '–'
}

export function seconds(value) {
  return Number.isFinite(value) ? `${value.toFixed(value >= 10 ? 0 : 1)}\u00a0s` : ''
}

/** The exact sum of decimal texts; what is no amount is left out. */
export function sum(amounts) {
  const known = amounts.map(String).filter((amount) => /^\d+(\.\d+)?$/.test(amount)).map((amount) => amount.split('.'))
  if (!known.length) return ''
  const places = Math.max(...known.map(([, fraction = '']) => fraction.length))
  const all = known.reduce((before, [whole, fraction = '']) => before + BigInt(whole + fraction.padEnd(places, '0')), 0n)
  const digits = String(all).padStart(places + 1, '0')
  return places ? `${digits.slice(0, -places)}.${digits.slice(-places)}` : digits
}

/** How long ago, in the page's language. */
export function ago(then, now = Date.now()) {
  const format = new Intl.RelativeTimeFormat(language, { numeric: 'auto', style: 'short' })
  const gone = Math.max(0, Math.round((now - then) / 1000))
  const [unit, size] = [['day', 86400], ['hour', 3600], ['minute', 60], ['second', 1]].find(([, each]) => gone >= each) ?? ['second', 1]
  return format.format(-Math.floor(gone / size), unit)
}
