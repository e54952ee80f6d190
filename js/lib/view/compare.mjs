/** Two attempts over each other: a slider shows more of one or of the other. */
import { element } from '../dom.mjs'
import { score } from '../format.mjs'
import { thumbnail } from '../server.mjs'
import { t } from '../text.mjs'

/**
 * @param {object} given
 * @param {import('../types').AttemptItem[]} given.items
 * @param {[number, number]} given.pair which two
 * @param {number} given.share in percent, of the first
 * @param {(pair: [number, number]) => void} given.choose
 * @param {(share: number) => void} given.slide
 */
export function compare({ items, pair, share, choose, slide }) {
  const [left, right] = pair
  return element(
    'section.rf-compare',
    { key: 'compare' },
    element(
      'div.rf-row',
      {},
      chooser(items, left, t('loop.left'), (index) => choose([index, right])),
      element('span.rf-space'),
      chooser(items, right, t('loop.right'), (index) => choose([left, index]))
    ),
    element(
      'div.rf-pair',
      {},
      shown(items[right], ''),
      shown(items[left], `clip-path:inset(0 ${100 - share}% 0 0)`),
      element('div.rf-divider', { style: `left:${share}%`, 'aria-hidden': 'true' })
    ),
    element('input.rf-slider', {
      type: 'range',
      min: 0,
      max: 100,
      value: share,
      'aria-label': t('loop.slider'),
      'data-focus': 'slider',
      oninput: (/** @type {any} */ event) => slide(Number(event.currentTarget.value))
    })
  )
}

/** @param {any[]} items @param {number} chosen @param {string} label @param {(index: number) => void} choose */
function chooser(items, chosen, label, choose) {
  return element(
    'select.rf-input',
    {
      'aria-label': label,
      value: String(chosen),
      onchange: (/** @type {any} */ event) => choose(Number(event.currentTarget.value))
    },
    items.map((item, index) =>
      element(
        'option',
        { value: String(index), selected: index === chosen },
        `${t('loop.nth', { n: item.number })} · ${score(item.score)}`
      )
    )
  )
}

/** @param {import('../types').AttemptItem} item @param {string} style */
const shown = (item, style) =>
  element('img', { src: item.image ? thumbnail(item.image, true) : null, alt: '', style })
