/** A bar per day: as high as what was spent, green as far as its images passed. The numbers are in words too. */
import { el } from './dom.mjs'
import { sum } from './format.mjs'
import { t } from './text.mjs'

/** @param {object} totals what the route `days` answers */
export function chart({ days, today, limits }) {
  const credits = sum(days.map((each) => each.credits)) || '0'
  const total = (name) => days.reduce((all, each) => all + each[name], 0)
  const judged = total('judged')
  const rate = Math.round((100 * total('passed')) / (judged || 1))
  const said = t('history.chart', { days: days.length, judged, rate, credits })
  return el('figure.rf-chart', {},
    bars(days, said),
    el('figcaption', {}, el('span', {}, said), el('span', {}, spent(today, limits))))
}

function spent(today, limits) {
  const ofCredits = limits.credits === null ? today.credits : `${today.credits} / ${limits.credits}`
  return t('history.today', { evaluations: `${today.evaluations} / ${limits.evaluations}`, credits: ofCredits })
}

function bars(days, said) {
  const paid = days.some((each) => Number(each.credits) > 0)
  const height = (each) => (paid ? Number(each.credits) : each.judged)
  const most = Math.max(...days.map(height)) || 1
  const share = (part, whole) => `height:${whole ? (100 * part) / whole : 0}%`
  return el('div.rf-bars', { role: 'img', 'aria-label': said }, days.map((each) => el('div', { title: t('history.day', each) },
    el('div.rf-bar', { style: share(height(each), most) }, el('div.rf-bar-passed', { style: share(each.passed, each.judged) })))))
}
