/** What the insight page looks like: pure functions from its state to descriptions, plots as SVG among them. */
import { button, element, named } from '../dom.mjs'
import { has, t } from '../text.mjs'
import { gridView } from './grid.mjs'

/**
 * @typedef {{share: number | null, low: number, high: number, count: number, of: number}} Share
 * @typedef {object} Group
 * @property {(string | null)[]} values
 * @property {number} judged
 * @property {Share} pass_rate
 * @property {{mean: number | null, low: number | null, high: number | null}} score
 * @property {{value: number | null}} attempts_per_kept
 * @property {string} credits
 * @property {string | null} credits_per_kept
 * @property {boolean} enough
 * @typedef {object} Agreement
 * @property {string} judge
 * @property {string | null} task
 * @property {number} good
 * @property {number} bad
 * @property {number} missing
 * @property {string} finding
 * @property {Share} agreement
 * @property {Share} wrong_passes
 * @property {Share} wrong_rejections
 * @property {{min_score: number, passed: number, rejected: number, wrong_passes: number, wrong_rejections: number} | null} proposal
 * @typedef {object} Overview
 * @property {string[]} by
 * @property {string[]} settings
 * @property {number} enough
 * @property {Group[]} groups
 * @property {Group} whole
 * @property {{date: string, judged: number, pass_rate: Share}[]} days
 * @property {{rejected: number, preflight: number, credits: string | null}} saved
 * @property {Agreement[]} agreement
 *
 * @typedef {{by: string, and: string, days: number, wrong_pass: number, wrong_rejection: number}} Query
 * @typedef {{query: Query, shown: Overview | null, trouble: string}} Given
 * @typedef {object} Acts
 * @property {(change: Partial<Query>) => void} ask
 * @property {() => void} refresh
 * @property {() => void} save
 * @property {() => void} rate
 */

const PERIODS = [0, 7, 30, 90]
const [WIDTH, HEIGHT, MOST] = [300, 90, 40]

/** @param {Given} given @param {Acts} acts */
export function insightView({ query, shown, trouble }, acts) {
  return [
    tools(query, shown, acts),
    trouble && element('p.rf-warn', { key: 'trouble', role: 'alert' }, trouble),
    !shown && !trouble && element('p.rf-quiet', { key: 'loading' }, t('details.loading')),
    shown &&
      element(
        'div.rf-insight',
        { key: 'shown', 'data-capture-wheel': 'true', tabindex: 0, ...region(t('insight.title')) },
        shown.whole.judged ? figures(shown) : element('p.rf-quiet', {}, t('insight.empty')),
        agreements(shown, query, acts)
      )
  ]
}

/** @param {Query} query @param {Overview | null} shown @param {Acts} acts */
function tools(query, shown, acts) {
  const settings = shown?.settings ?? [query.by]
  return element(
    'div.rf-tools',
    { key: 'tools', role: 'search', 'aria-label': t('insight.title') },
    element(
      'div.rf-filters',
      {},
      choice('by', query.by, settings, nameOf, acts),
      choice(
        'and',
        query.and,
        ['', ...settings],
        (each) => (each ? nameOf(each) : t('insight.alone')),
        acts
      ),
      choice('days', String(query.days), PERIODS.map(String), periodOf, acts)
    ),
    element(
      'div.rf-row',
      {},
      button('CSV', acts.save, named(t('history.export', { kind: 'CSV' }))),
      button('↻', acts.refresh, { ...named(t('history.refresh')), 'data-focus': 'refresh' }),
      button(t('insight.rate'), acts.rate, { 'data-focus': 'rate' })
    )
  )
}

/** For what can be scrolled by the keyboard. @param {string} label */
const region = (label) => ({ role: 'group', 'aria-label': label })
/** @param {string} name */
const nameOf = (name) => (has(`insight.setting.${name}`) ? t(`insight.setting.${name}`) : name)
/** @param {string} days */
const periodOf = (days) => (days === '0' ? t('history.any_time') : t('history.days', { n: days }))

/**
 * @param {'by' | 'and' | 'days'} name @param {string} value @param {string[]} values
 * @param {(each: string) => string} label @param {Acts} acts
 */
function choice(name, value, values, label, acts) {
  const onchange = (/** @type {any} */ { currentTarget: { value: chosen } }) =>
    acts.ask({ [name]: name === 'days' ? Number(chosen) : chosen })
  return element(
    'select.rf-input',
    { ...{ key: name, 'aria-label': t(`insight.${name}`), 'data-focus': name }, onchange, value },
    values.map((each) => element('option', { value: each, key: each }, label(each)))
  )
}

/** @param {Share} share */
export function percent({ share, low, high }) {
  if (share === null) return '–'
  const of = (/** @type {number} */ value) => Math.round(value * 100)
  return `${of(share)}\u00a0% (${of(low)}–${of(high)})`
}

/** @param {Overview} shown */
function figures({ whole, saved, by, groups, days, enough }) {
  const credits = Number(saved.credits) ? t('insight.saved_credits', { n: saved.credits }) : ''
  return [
    element(
      'p',
      { key: 'whole' },
      t('insight.whole', { n: whole.judged, rate: percent(whole.pass_rate) })
    ),
    element(
      'p.rf-quiet',
      { key: 'saved' },
      [t('insight.saved', { rejected: saved.rejected, preflight: saved.preflight }), credits].join(
        ' '
      )
    ),
    element('h4', { key: 'by' }, by.map(nameOf).join(' · ')),
    by.length > 1 && gridView(by.map(nameOf), groups),
    element('ul.rf-groups', { key: 'groups' }, groups.slice(0, MOST).map(groupView)),
    groups.some((group) => !group.enough) &&
      element('p.rf-quiet', { key: 'enough' }, t('insight.too_few', { n: enough })),
    days.length > 1 && overTime(days)
  ]
}

/** @param {Group} group */
function groupView(group) {
  const name = group.values.map((value) => value ?? t('insight.unknown')).join(' · ')
  const attempts = group.attempts_per_kept.value
  const facts = [
    t('insight.verdicts', { n: group.judged }),
    group.score.mean !== null && t('insight.mean', { n: meanOf(group.score) }),
    attempts && t('insight.attempts', { n: attempts.toFixed(1) }),
    Number(group.credits_per_kept) &&
      t('insight.credits', { n: Number(Number(group.credits_per_kept).toFixed(4)) })
  ]
  return element(
    'li.rf-group',
    { key: name, class: group.enough ? null : 'rf-few' },
    element('span.rf-two', { title: name }, name),
    element('strong', {}, percent(group.pass_rate)),
    group.pass_rate.share !== null && bar(group.pass_rate),
    element('span.rf-quiet', {}, facts.filter(Boolean).join(' · '))
  )
}

/** @param {Group['score']} score */
function meanOf({ mean, low, high }) {
  const between = low === null || high === null ? '' : ` (${low.toFixed(2)}–${high.toFixed(2)})`
  return `${mean?.toFixed(2)}${between}`
}

/** A share as a bar, and its interval as a line over it. @param {Share} rate */
function bar({ share, low, high }) {
  const at = (/** @type {number} */ value) => (value * 100).toFixed(1)
  return element(
    'svg:svg.rf-share',
    { viewBox: '0 0 100 8', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    element('svg:rect.rf-share-all', { width: 100, height: 8 }),
    element('svg:rect.rf-share-part', { width: at(share ?? 0), height: 8 }),
    element('svg:path.rf-share-interval', {
      d: `M${at(low)} 4H${at(high)}`,
      'vector-effect': 'non-scaling-stroke'
    })
  )
}

/** @param {Overview['days']} days */
function overTime(days) {
  const shown = days.filter(({ judged }) => judged)
  const x = (/** @type {number} */ at) => ((at / Math.max(1, shown.length - 1)) * WIDTH).toFixed(1)
  const y = (/** @type {number} */ value) => ((1 - value) * HEIGHT).toFixed(1)
  const line = shown.map(({ pass_rate }, at) => `${x(at)},${y(pass_rate.share ?? 0)}`)
  const area = [
    ...shown.map(({ pass_rate }, at) => `${x(at)},${y(pass_rate.high)}`),
    ...shown.map(({ pass_rate }, at) => `${x(at)},${y(pass_rate.low)}`).reverse()
  ]
  return element(
    'figure.rf-chart',
    { key: 'days' },
    element('figcaption', {}, t('insight.over_time')),
    element(
      'div.rf-plot',
      {},
      element('span.rf-scale', {}, element('span', {}, '100\u00a0%'), element('span', {}, '0')),
      element(
        'svg:svg.rf-line',
        {
          ...{ viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none' },
          ...{ role: 'img', 'aria-label': t('insight.over_time') }
        },
        element('svg:polygon.rf-line-interval', { points: area.join(' ') }),
        element('svg:polyline.rf-line-rate', {
          points: line.join(' '),
          'vector-effect': 'non-scaling-stroke'
        })
      ),
      element(
        'div.rf-dates',
        {},
        element('span', {}, shown[0]?.date),
        element('span', {}, shown.at(-1)?.date)
      )
    )
  )
}

/** @param {Overview} shown @param {Query} query @param {Acts} acts */
function agreements({ agreement }, query, acts) {
  return element(
    'section',
    { key: 'agreement' },
    element('h4', {}, t('insight.agreement')),
    agreement.length
      ? element('ul.rf-groups', {}, agreement.map(agreementView))
      : element('p.rf-quiet', {}, t('insight.no_ratings')),
    agreement.length > 0 &&
      element(
        'div.rf-filters',
        {},
        cost('wrong_pass', query, acts),
        cost('wrong_rejection', query, acts)
      )
  )
}

/** @param {'wrong_pass' | 'wrong_rejection'} name @param {Query} query @param {Acts} acts */
function cost(name, query, acts) {
  return element(
    'label.rf-cost',
    { key: name },
    t(`insight.cost.${name}`),
    element('input.rf-input', {
      ...{ type: 'number', min: 0, step: 'any', value: String(query[name]), 'data-focus': name },
      onchange: (/** @type {any} */ event) =>
        acts.ask({ [name]: Number(event.currentTarget.value) || 0 })
    })
  )
}

/** @param {Agreement} each */
function agreementView(each) {
  const task = each.task === null ? t('insight.all_tasks') : each.task || t('insight.unknown')
  const { proposal } = each
  return element(
    'li.rf-group',
    { key: `${each.judge}/${each.task}`, class: each.missing ? 'rf-few' : null },
    element('strong', {}, `${each.judge} · ${task}`),
    element(
      'span',
      {},
      each.missing
        ? t('insight.missing', { n: each.missing })
        : t(`insight.finding.${each.finding}`)
    ),
    element('span.rf-quiet', {}, t('insight.rated', { good: each.good, bad: each.bad })),
    !each.missing &&
      element(
        'span.rf-quiet',
        {},
        t('insight.shares', {
          agrees: percent(each.agreement),
          passes: percent(each.wrong_passes),
          rejections: percent(each.wrong_rejections)
        })
      ),
    proposal && element('span.rf-whole', {}, t('insight.proposal', { ...proposal }))
  )
}
