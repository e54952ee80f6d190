/** Two settings against each other: the pass rate of each pair, with what it was counted from. */
import { element } from '../dom.mjs'
import { t } from '../text.mjs'

/** @typedef {import('./view.mjs').Group} Group */

const [ROWS, COLUMNS] = [12, 8]

/** @param {string[]} by the names of both settings @param {Group[]} groups those with the most verdicts first */
export function gridView(by, groups) {
  const [rows, columns] = [used(groups, 0).slice(0, ROWS), used(groups, 1).slice(0, COLUMNS)]
  const of = new Map(groups.map((group) => [JSON.stringify(group.values), group]))
  return element(
    'div.rf-scroll',
    { key: 'grid', tabindex: 0, role: 'group', 'aria-label': by.join(' · ') },
    element(
      'table.rf-grid',
      {},
      element(
        'thead',
        {},
        element(
          'tr',
          {},
          element('td', {}),
          columns.map((value) => heading(value, 'col'))
        )
      ),
      element(
        'tbody',
        {},
        rows.map((row) =>
          element(
            'tr',
            { key: String(row) },
            heading(row, 'row'),
            columns.map((column) => cell(of.get(JSON.stringify([row, column]))))
          )
        )
      )
    )
  )
}

/** The values of one of the settings, the most used first. @param {Group[]} groups @param {0 | 1} which */
function used(groups, which) {
  /** @type {Map<string | null, number>} */
  const counts = new Map()
  for (const { values, judged } of groups) {
    counts.set(values[which], (counts.get(values[which]) ?? 0) + judged)
  }
  return [...counts].sort(([, one], [, other]) => other - one).map(([value]) => value)
}

/** @param {string | null} value @param {'row' | 'col'} scope */
function heading(value, scope) {
  const name = value ?? t('insight.unknown')
  return element('th', { scope, title: name }, element('span.rf-two', {}, name))
}

/** @param {Group | undefined} group */
function cell(group) {
  if (!group?.judged) return element('td', {}, '–')
  const { share, low, high } = group.pass_rate
  const of = (/** @type {number} */ value) => Math.round(100 * value)
  return element(
    'td',
    { class: group.enough ? null : 'rf-few', style: `--rf-at:${of(share ?? 0)}%` },
    element('strong', {}, `${of(share ?? 0)}\u00a0%`),
    element('small', {}, `${of(low)}–${of(high)}`),
    element('small', {}, `n\u00a0${group.judged}`)
  )
}
