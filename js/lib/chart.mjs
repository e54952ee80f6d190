/** Per day, a bar as high as what was spent, coloured by how many of its images passed; every number is also in the picture's description. */
import { el, svg } from './dom.mjs'
import { sum } from './format.mjs'
import { t } from './text.mjs'

const WIDTH = 280
const HEIGHT = 64

/** @param {object} totals what the route `days` answers */
export function chart({ days, today, limits }) {
  const credits = sum(days.map((each) => each.credits)) || '0'
  const judged = days.reduce((all, each) => all + each.evaluations, 0)
  const passed = days.reduce((all, each) => all + each.passed, 0)
  const rate = judged ? Math.round((100 * passed) / judged) : 0
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
  const height = (each) => (paid ? Number(each.credits) : each.evaluations)
  const most = Math.max(...days.map(height)) || 1
  const step = WIDTH / days.length
  const picture = svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': said, class: 'rf-bars', preserveAspectRatio: 'none' })
  days.forEach((each, index) => {
    const all = (height(each) / most) * (HEIGHT - 4)
    const good = each.evaluations ? (all * each.passed) / each.evaluations : 0
    const bar = (name, from, tall) => svg('rect', { class: name, x: index * step + 1, width: Math.max(1, step - 2), y: HEIGHT - from - tall, height: tall })
    const title = svg('title')
    title.textContent = t('history.day', each)
    picture.append(svg('g', {}, title, bar('rf-bar-hit', 0, HEIGHT), bar('rf-bar-other', good, all - good), bar('rf-bar-passed', 0, good)))
  })
  return picture
}
