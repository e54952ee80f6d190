/** Thumbs: what the person thinks of the verdict, as Runflow has it. */
import { button, element, named } from '../dom.mjs'
import { t } from '../text.mjs'

const MOST_CHARACTERS = 2000
/** @type {Record<string, string>} */
const ICONS = { good: 'up', bad: 'down' }

/**
 * @param {object} given
 * @param {import('../types').Feedback | undefined} given.now what is set
 * @param {boolean} given.asks whether the reason is asked for
 * @param {string} given.offered a reason to begin with
 * @param {string} given.trouble why the last rating was not taken
 * @param {(rating: 'good' | 'bad' | 'clear', reason: string) => void} given.rate
 * @param {() => void} given.ask
 */
export function ratingView({
  now = { rating: 'none', reason: '' },
  asks,
  offered,
  trouble,
  rate,
  ask
}) {
  const rated = now.rating !== 'none'
  const thumb = (/** @type {'good' | 'bad'} */ value, /** @type {() => void} */ act) =>
    element(
      'button.rf-button.rf-thumb',
      {
        type: 'button',
        onclick: act,
        'aria-pressed': String(now.rating === value),
        'data-focus': `rate-${value}`,
        ...named(t(`rating.${value}`))
      },
      element(`i.pi.pi-thumbs-${ICONS[value]}`, { 'aria-hidden': 'true' })
    )
  return element(
    'section.rf-rating',
    { 'aria-label': t('rating.label'), key: 'rating' },
    element(
      'div.rf-row',
      {},
      element('span', {}, t('rating.label')),
      thumb('good', () => rate('good', '')),
      thumb('bad', ask),
      rated && button(t('rating.clear'), () => rate('clear', ''), { 'data-focus': 'rate-good' }),
      rated &&
        element(
          'span.rf-quiet',
          {},
          [t(`rating.said.${now.rating}`), now.reason].filter(Boolean).join(': ')
        )
    ),
    asks && reasonForm(now.reason || offered, rate),
    trouble && element('p.rf-warn', { role: 'alert' }, t('rating.failed', { message: trouble }))
  )
}

/** @param {string} reason @param {(rating: 'bad', reason: string) => void} rate */
function reasonForm(reason, rate) {
  const label = t('rating.reason')
  const send = (/** @type {any} */ event) => {
    event.preventDefault()
    rate('bad', event.currentTarget.elements.reason.value.trim())
  }
  return element(
    'form.rf-reason',
    { key: 'reason', onsubmit: send },
    element('textarea.rf-input', {
      name: 'reason',
      rows: 2,
      maxlength: MOST_CHARACTERS,
      'aria-label': label,
      placeholder: label,
      value: reason,
      'data-focus': 'reason'
    }),
    element('button.rf-button', { type: 'submit', 'data-focus': 'rate-bad' }, t('rating.send'))
  )
}
