/** Judges (or requirements) against attempts: who was content with what. */
import { element } from '../dom.mjs'
import { knownOf } from '../state/evaluations.mjs'
import { t } from '../text.mjs'
import { SIGNS } from './score.mjs'

/** @typedef {import('../types').AttemptItem} Item */

/** The judges of an image, from what the node sent or what the journal has. @param {Item} item */
export function judgesOf(item) {
  const known = knownOf(item.id)
  return known?.judges?.length ? known.judges : item.judges
}

/** What an attempt gained and lost, in words. @param {{lost: string[], gained: string[]}} attempt */
export function changesOf({ lost, gained }) {
  const say = (/** @type {string} */ key, /** @type {string[]} */ lines) =>
    lines.length ? [t(key, { lines: lines.join(', ') })] : []
  return [...say('loop.lost', lost), ...say('loop.gained', gained)]
}

/**
 * @param {Item[]} items one for each attempt
 * @param {number} selected
 * @param {(index: number) => void} choose
 */
export function matrix(items, selected, choose) {
  const all = items.map(
    (item) => new Map(judgesOf(item).map((judge) => [judge.name, judge.passed]))
  )
  const names = [...new Set(all.flatMap((each) => [...each.keys()]))]
  if (!names.length) {
    const reads = items.some(({ id }) => id !== null && !knownOf(id))
    return element('p.rf-quiet', {}, t(reads ? 'details.loading' : 'loop.no_judges'))
  }
  const head = items.map((item, index) =>
    element(
      'th',
      { scope: 'col', 'data-selected': index === selected || null },
      element('button.rf-button', { type: 'button', onclick: () => choose(index) }, item.number)
    )
  )
  return element(
    'div.rf-scroll',
    { tabindex: 0, role: 'region', 'aria-label': t('loop.matrix') },
    element(
      'table.rf-matrix',
      {},
      element('caption.rf-hidden', {}, t('loop.matrix')),
      element(
        'thead',
        {},
        element('tr', {}, element('th', { scope: 'col' }, t('details.judge')), head)
      ),
      element(
        'tbody',
        {},
        names.map((name) =>
          element(
            'tr',
            { key: name },
            element('th', { scope: 'row' }, name),
            all.map((each) => cell(each.get(name)))
          )
        )
      )
    )
  )
}

/** @param {boolean | null | undefined} passed */
function cell(passed) {
  if (passed === undefined) return element('td', {}, '–')
  const decided = passed ? 'passed' : 'failed'
  const outcome = passed === null ? 'unknown' : decided
  return element(
    'td',
    { 'data-outcome': outcome },
    element('span', { role: 'img', 'aria-label': t(`panel.${outcome}`) }, SIGNS[outcome])
  )
}
