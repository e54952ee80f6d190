/** Images of a batch, or attempts of a loop, in a row: a list box with one stop for the Tab key. */
import { element } from '../dom.mjs'
import { score } from '../format.mjs'
import { thumbnail } from '../server.mjs'
import { t } from '../text.mjs'
import { picture, SIGNS } from './score.mjs'

/** @typedef {import('../types').AttemptItem} Item */

const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }

/**
 * @param {object} given
 * @param {(import('../types').Verdict & Partial<Item>)[]} given.items
 * @param {number} given.selected
 * @param {number} [given.winner] the attempt that came out; 0 for no loop
 * @param {string} [given.picked] the image that a person took instead
 * @param {(index: number, opens: boolean) => void} given.choose
 */
export function strip({ items, selected, winner = 0, picked = '', choose }) {
  const label = t(winner ? 'panel.attempts' : 'panel.images')
  return element(
    'div.rf-strip',
    {
      role: 'listbox',
      'aria-label': label,
      'aria-orientation': 'horizontal',
      key: 'strip',
      'data-capture-wheel': 'true',
      onwheel: onWheel,
      onkeydown: (/** @type {KeyboardEvent} */ event) =>
        onKey(event, items.length, selected, choose)
    },
    items.map((item, index) => option(item, index, { items, selected, winner, picked, choose }))
  )
}

/** @param {any} item @param {number} index @param {any} given */
function option(item, index, { selected, winner, picked, choose }) {
  const isPicked = picked && item.images?.includes(picked)
  const wins = winner > 0 && item.number === winner
  const facts = [
    t(winner ? 'loop.label' : 'panel.image', {
      n: item.number ?? index + 1,
      outcome: t(`panel.${item.verdict}`),
      score: score(item.score)
    }),
    wins && t('loop.came_out'),
    isPicked && t('panel.yours')
  ].filter(Boolean)
  return element(
    'div.rf-image',
    {
      role: 'option',
      key: index,
      tabindex: index === selected ? 0 : -1,
      'data-outcome': item.verdict,
      'data-index': index,
      'aria-selected': String(index === selected),
      'data-wins': wins || null,
      'aria-label': facts.join(', '),
      title: facts.join(', '),
      onclick: () => choose(index, true)
    },
    picture(item.image && thumbnail(item.image), index + 1),
    isPicked && element('span.rf-star', { 'aria-hidden': 'true' }, '★'),
    element(
      'span.rf-mark',
      { 'aria-hidden': 'true' },
      SIGNS[item.verdict],
      winner > 0 && item.score !== null && score(item.score)
    )
  )
}

/** The wheel goes along it, as far as there is something to see. @param {WheelEvent} event */
function onWheel(event) {
  const list = /** @type {HTMLElement} */ (event.currentTarget)
  const before = list.scrollLeft
  if (event.ctrlKey || event.metaKey) return
  list.scrollLeft += event.deltaY || event.deltaX
  if (list.scrollLeft === before) return
  event.preventDefault()
  event.stopPropagation()
}

/** @type {WeakMap<Element, string>} what each strip was scrolled to last */
const shown = new WeakMap()

/** Bring what is selected into sight, once: what a person scrolls afterwards stays. @param {Element} root */
export function showSelected(root) {
  for (const list of root.querySelectorAll('.rf-strip')) {
    const [first] = list.children
    const option = list.querySelector('[aria-selected="true"]')
    if (!(option instanceof HTMLElement && first instanceof HTMLElement)) continue
    const which = `${option.dataset.index} of ${list.childElementCount}`
    if (shown.get(list) === which || !list.clientWidth) continue
    shown.set(list, which)
    const middle = option.offsetLeft - first.offsetLeft + option.offsetWidth / 2
    list.scrollLeft = middle - list.clientWidth / 2
  }
}

/** @param {KeyboardEvent} event @param {number} count @param {number} selected @param {any} choose */
function onKey(event, count, selected, choose) {
  if (event.key === 'Enter' || event.key === ' ') {
    event.preventDefault()
    return choose(selected, true)
  }
  const step = STEPS[/** @type {keyof typeof STEPS} */ (event.key)] ?? 0
  const ends = { Home: 0, End: count - 1 }[event.key]
  const to = ends ?? Math.min(count - 1, Math.max(0, selected + step))
  if (ends === undefined && !step) return
  event.preventDefault()
  const list = /** @type {HTMLElement} */ (event.currentTarget)
  choose(to, false)
  const option = list.querySelector(`[data-index="${to}"]`)
  if (!(option instanceof HTMLElement)) return
  option.focus({ preventScroll: true })
}
