/** A bar per day: as high as what was spent, parted into what passed and what did not. With a scale, and in words. */
import { element } from '../dom.mjs'
import { sum } from '../format.mjs'
import { language, t } from '../text.mjs'

/**
 * @typedef {{date: string, evaluations: number, judged: number, passed: number, credits: string}} Day
 * @typedef {{days: Day[], today: {evaluations: number, credits: string}, limits: {evaluations: number | null,
 *   credits: string | null}}} Totals what `GET /runflow-evaluate/days` answers
 */

/** @param {Totals} totals */
export function chart({ days, today, limits }) {
  const total = (/** @type {'judged' | 'passed'} */ name) =>
    days.reduce((all, each) => all + each[name], 0)
  const judged = total('judged')
  const rate = Math.round((100 * total('passed')) / (judged || 1))
  const credits = sum(days.map((each) => each.credits)) || '0'
  const said = t('history.chart', { days: days.length, judged, rate, credits })
  return element(
    'figure.rf-chart',
    { key: 'chart' },
    bars(days, said),
    element('figcaption', {}, element('span', {}, said), element('span', {}, spent(today, limits)))
  )
}

/** @param {Totals['today']} today @param {Totals['limits']} limits */
function spent(today, limits) {
  const of = (/** @type {number | string} */ used, /** @type {number | string | null} */ limit) =>
    limit === null ? String(used) : `${used} / ${limit}`
  return t('history.today', {
    evaluations: of(today.evaluations, limits.evaluations),
    credits: of(today.credits, limits.credits)
  })
}

/** @param {Day[]} days @param {string} said */
function bars(days, said) {
  const paid = days.some((each) => Number(each.credits) > 0)
  const height = (/** @type {Day} */ each) => (paid ? Number(each.credits) : each.judged)
  const most = Math.max(0, ...days.map(height))
  const unit = t(paid ? 'history.scale_credits' : 'history.scale_judged', { n: amount(most) })
  return element(
    'div.rf-plot',
    { role: 'img', 'aria-label': said },
    element('span.rf-scale', {}, element('span', {}, unit), element('span', {}, '0')),
    element(
      'div.rf-bars',
      {},
      days.map((each) => bar(each, height(each), most))
    ),
    element(
      'span.rf-dates',
      {},
      element('span', {}, dayOf(days[0]?.date)),
      element('span', {}, dayOf(days.at(-1)?.date))
    )
  )
}

/** @param {Day} day @param {number} height @param {number} most */
function bar(day, height, most) {
  const share = (/** @type {number} */ part, /** @type {number} */ whole) =>
    `height:${whole ? Math.round((1000 * part) / whole) / 10 : 0}%`
  return element(
    'div',
    { title: t('history.day', { ...day, date: dayOf(day.date) }) },
    element(
      'div.rf-bar',
      { style: share(height, most) },
      element('div.rf-bar-passed', { style: share(day.passed, day.judged) })
    )
  )
}

/** @param {number} value */
const amount = (value) => String(Number(value.toFixed(2)))

/** @param {string | undefined} date */
function dayOf(date) {
  if (!date) return ''
  const format = new Intl.DateTimeFormat(language, {
    month: 'short',
    day: 'numeric',
    timeZone: 'UTC'
  })
  return format.format(new Date(`${date}T00:00:00Z`))
}
