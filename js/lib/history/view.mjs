/** What the history looks like: pure functions from its state to descriptions. */
import { button, element, named } from '../dom.mjs'
import { ago, judgedBy, score, seconds } from '../format.mjs'
import { thumbnail } from '../server.mjs'
import { has, t } from '../text.mjs'
import { picture, SIGNS } from '../view/score.mjs'
import { chart } from './chart.mjs'
import { narrows, VERDICTS } from './rows.mjs'

/** @typedef {import('./rows.mjs').Row} Row */
/** @typedef {import('./rows.mjs').Query} Query */

/**
 * @typedef {object} Given
 * @property {import('./rows.mjs').Rows} list
 * @property {Query} query
 * @property {string} workflow the id of the open workflow
 * @property {import('./chart.mjs').Totals | null} totals
 * @property {boolean} newer whether evaluations were made since
 * @property {number} first the rows in sight
 * @property {number} last
 * @property {number} current the row that the Tab key goes to
 * @property {Set<number>} busy rows that are being collected or rated
 *
 * @typedef {object} Acts
 * @property {(change: Partial<Query>) => void} ask
 * @property {() => void} refresh
 * @property {() => void} more
 * @property {(kind: string) => void} save
 * @property {(file: File | undefined) => void} file a saved image that may say its verdict
 * @property {(index: number) => void} open
 * @property {(row: Row) => void} workflow
 * @property {(row: Row) => void} collect
 * @property {(event: any) => void} key
 * @property {() => void} scrolled
 */

export const ROW = 66
const OUTCOMES = ['passed', 'failed', 'unknown', 'error', 'open', 'closed', 'abandoned']
const RATINGS = ['good', 'bad', 'none']
const PERIODS = [1, 7, 30]

/** @param {Given} given @param {Acts} acts */
export function historyView(given, acts) {
  const { list, totals } = given
  return [
    tools(given, acts),
    totals && chart(totals),
    status(given, acts),
    element(
      'div.rf-list',
      {
        ...{ key: 'list', role: 'list', 'aria-label': t('history.title') },
        ...{ 'data-capture-wheel': 'true', onscroll: acts.scrolled, onkeydown: acts.key }
      },
      element(
        'div.rf-list-inner',
        { style: `height:${list.rows.length * ROW}px` },
        list.rows
          .slice(given.first, given.last)
          .map((row, offset) => rowView(row, given.first + offset, given, acts))
      )
    )
  ]
}

/** @param {Given} given @param {Acts} acts */
function tools({ query, workflow }, acts) {
  const save = (/** @type {string} */ kind) =>
    button(kind, () => acts.save(kind), named(t('history.export', { kind })))
  return element(
    'div.rf-tools',
    { key: 'tools', role: 'search', 'aria-label': t('history.filters') },
    element('input.rf-input', {
      ...{ type: 'search', value: query.search, 'data-focus': 'search' },
      ...{ placeholder: t('history.search'), 'aria-label': t('history.search') },
      oninput: (/** @type {any} */ event) => acts.ask({ search: event.currentTarget.value })
    }),
    filters(query, workflow, acts),
    element(
      'div.rf-row',
      {},
      save('CSV'),
      save('JSON'),
      button('↻', acts.refresh, { ...named(t('history.refresh')), 'data-focus': 'refresh' }),
      button(t('history.file'), chooseFile, { title: t('history.file_why'), 'data-focus': 'file' }),
      element('input', {
        ...{ type: 'file', accept: 'image/png', hidden: true, 'aria-label': t('history.file') },
        onchange: (/** @type {any} */ { currentTarget: chooser }) => {
          acts.file(chooser.files[0])
          chooser.value = ''
        }
      }),
      narrows(query) &&
        button(t('history.clear'), () => acts.ask({ ...NOTHING }), { 'data-focus': 'clear' })
    )
  )
}

/** @param {any} event of the button, beside which the hidden field is */
const chooseFile = ({ currentTarget }) => currentTarget.nextElementSibling.click()

/** @param {Query} query @param {string} workflow @param {Acts} acts */
function filters(query, workflow, acts) {
  const outcome = (/** @type {string} */ each) => t(`history.outcome.${each || 'all'}`)
  const rated = (/** @type {string} */ each) => t(`history.rated.${each || 'all'}`)
  const made = (/** @type {string} */ each) =>
    t(each ? 'history.this_workflow' : 'history.all_workflows')
  return element(
    'div.rf-filters',
    {},
    choice('outcome', query.outcome, ['', ...OUTCOMES], outcome, acts),
    choice('rating', query.rating, ['', ...RATINGS], rated, acts),
    choice('days', String(query.days || ''), ['', ...PERIODS.map(String)], periodOf, acts),
    choice('workflow', query.workflow && workflow, ['', workflow], made, acts),
    choice('sort', query.sort, ['', 'best', 'worst'], sortOf, acts)
  )
}

const NOTHING = { search: '', outcome: '', rating: '', workflow: '', days: 0, sort: '' }

/** @param {string} sort */
const sortOf = (sort) => t(`history.sort.${sort || 'newest'}`)

/** @param {string} days */
const periodOf = (days) => (days ? t('history.days', { n: days }) : t('history.any_time'))

/**
 * @param {string} name @param {string} value @param {string[]} values @param {(each: string) => string} label
 * @param {Acts} acts
 */
function choice(name, value, values, label, acts) {
  const onchange = (/** @type {any} */ { currentTarget: { value: chosen } }) =>
    acts.ask({ [name]: name === 'days' ? Number(chosen) : chosen })
  return element(
    'select.rf-input',
    {
      ...{ key: name, 'aria-label': t(`history.by.${name}`), 'data-focus': name, onchange, value },
      class: value ? 'rf-set' : null
    },
    values.map((each) => element('option', { value: each, key: each }, label(each)))
  )
}

/** One line that says what the list does not. @param {Given} given @param {Acts} acts */
function status({ list, query, newer }, acts) {
  const [text, act, label] = said(list, query, newer)
  const press = act === 'more' ? acts.more : acts.refresh
  return element(
    'div.rf-row.rf-said',
    { key: 'status', role: 'status', class: list.trouble ? 'rf-warn' : 'rf-quiet' },
    text,
    act && button(label, press, { 'data-focus': 'again' })
  )
}

/** @param {import('./rows.mjs').Rows} list @param {Query} query @param {boolean} newer */
function said({ rows, trouble, reading, complete }, query, newer) {
  if (trouble) return [trouble, 'more', t('settings.again')]
  if (newer) return [t('history.newer'), 'refresh', t('history.refresh')]
  if (reading && !rows.length) return [t('settings.reading'), '', '']
  if (!complete || rows.length) return ['', '', '']
  return [t(narrows(query) ? 'history.none' : 'history.empty'), '', '']
}

/** @param {Row} row @param {number} index @param {Given} given @param {Acts} acts */
function rowView(row, index, given, acts) {
  const { list, current, busy } = given
  return element(
    'div.rf-list-item',
    {
      ...{
        key: row.row,
        role: 'listitem',
        'data-outcome': row.outcome,
        'aria-posinset': index + 1
      },
      'aria-setsize': list.complete ? list.rows.length : -1,
      style: `top:${index * ROW}px;height:${ROW}px`
    },
    element(
      'button.rf-history-row',
      {
        ...{ type: 'button', 'data-index': index, tabindex: index === current ? 0 : -1 },
        ...{ 'data-focus': `row-${row.row}`, onclick: () => acts.open(index) }
      },
      element('span.rf-thumbnail', {}, picture(row.image && thumbnail(row.image), '')),
      element('span.rf-cells', {}, ...cells(row))
    ),
    element('span.rf-row-acts', {}, ...rowActs(row, busy.has(row.row), acts))
  )
}

/** @param {Row} row */
function cells(row) {
  const { rating } = row.feedback
  const judge = VERDICTS.includes(row.outcome) ? judgedBy(row) : '' // others were judged by nobody
  const facts = [
    row.practice ? '' : judge,
    row.cost && t('panel.credits', { cost: row.cost }),
    seconds(row.seconds)
  ]
  const why = whyOf(row)
  return [
    element(
      'span.rf-row-head',
      {},
      element('span.rf-dot', { 'aria-hidden': 'true' }, SIGNS[row.outcome] ?? '!'),
      element('strong', {}, t(`history.outcome.${row.outcome}`)),
      row.score !== null && element('span', {}, score(row.score)),
      rating !== 'none' && element('span.rf-chip', {}, t(`rating.said.${rating}`)),
      element('span.rf-when', {}, ago(row.created_at * 1000))
    ),
    element('span.rf-cut', { title: row.prompt || null }, row.prompt || row.id || '–'),
    element(
      'span.rf-cut.rf-quiet',
      { title: [why, judge].filter(Boolean).join('\n') || null },
      [row.practice && t('panel.practice'), why, ...facts].filter(Boolean).join(' · ')
    )
  ]
}

/** Why it did not pass, in a person's words where there are some. @param {Row} row */
function whyOf({ outcome, issue, failure }) {
  if (outcome === 'passed') return ''
  const code = String(failure ?? '')
  return issue || (has(`history.failure.${code}`) ? t(`history.failure.${code}`) : code)
}

/** @param {Row} row @param {boolean} busy @param {Acts} acts */
function rowActs(row, busy, acts) {
  return [
    row.outcome === 'open' &&
      row.id &&
      button(t(busy ? 'history.collecting' : 'history.collect'), () => acts.collect(row), {
        ...{ key: 'collect', disabled: busy, title: t('history.collect_tip') }
      }),
    element(
      'button.rf-button.rf-icon',
      {
        ...{ key: 'workflow', type: 'button', onclick: () => acts.workflow(row) },
        ...named(t('history.workflow'))
      },
      element('i.pi.pi-sitemap', { 'aria-hidden': 'true' })
    )
  ]
}
