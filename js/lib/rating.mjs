/** Thumbs: what the person thinks of the verdict, as Runflow has it. */
import { button, el, named } from './dom.mjs'
import { t } from './text.mjs'

const MOST_CHARACTERS = 2000
const ICONS = { good: 'up', bad: 'down' }

/**
 * @param {{rating: string, reason: string}} [now] what is set
 * @param {object} host `rate(rating, reason)` resolves when Runflow has taken it; `note(text)`; `overruled`: a reason
 *   to offer
 */
export function rating(now = { rating: 'none', reason: '' }, host) {
  const label = t('rating.reason')
  const area = el('textarea.rf-input', { rows: 2, maxlength: MOST_CHARACTERS, 'aria-label': label, placeholder: label, 'data-focus': 'reason' })
  const offered = now.rating === 'none' && host.overruled
  area.value = offered || now.reason
  let sending = false // a button that is disabled loses the focus
  const send = async (value, reason) => {
    if (sending) return
    sending = true
    try {
      await host.rate(value, reason)
    } catch (error) {
      host.note(t('rating.failed', { message: error.message }), 'error')
    } finally {
      sending = false
    }
  }
  // What goes away when it has done its work names the thumb that takes the focus then.
  const form = el('div.rf-reason', { hidden: !offered }, area,
    button(t('rating.send'), () => send('bad', area.value.trim()), { 'data-focus': 'rate-bad' }))
  const thumb = (value, onclick) => button(el(`i.pi.pi-thumbs-${ICONS[value]}`), onclick, {
    ...named(t(`rating.${value}`)), 'aria-pressed': String(now.rating === value), 'data-focus': `rate-${value}`
  })
  return el('section.rf-rating', { 'aria-label': t('rating.label') },
    el('div.rf-row', {},
      el('span', {}, t('rating.label')),
      thumb('good', () => send('good', '')),
      thumb('bad', () => { form.hidden = false; area.focus() }),
      now.rating !== 'none' && button(t('rating.clear'), () => send('clear', ''), { 'data-focus': 'rate-good' }),
      now.rating !== 'none' && el('span.rf-quiet', {}, [t(`rating.said.${now.rating}`), now.reason].filter(Boolean).join(': '))),
    form)
}
