/** Thumbs: what the person thinks of the verdict, as Runflow has it. */
import { button, el } from './dom.mjs'
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
  const send = async (event, value, reason) => {
    const pressed = event.currentTarget
    pressed.disabled = true
    try {
      await host.rate(value, reason)
    } catch (error) {
      host.note(t('rating.failed', { message: error.message }), 'error')
    } finally {
      pressed.disabled = false
    }
  }
  const form = el('div.rf-reason', { hidden: !offered }, area,
    button(t('rating.send'), (event) => send(event, 'bad', area.value.trim()), { 'data-focus': 'send-reason' }))
  const thumb = (value, onclick) => button(el(`i.pi.pi-thumbs-${ICONS[value]}`), onclick, {
    'aria-label': t(`rating.${value}`), title: t(`rating.${value}`), 'aria-pressed': String(now.rating === value), 'data-focus': `rate-${value}`
  })
  return el('section.rf-rating', { 'aria-label': t('rating.label') },
    el('div.rf-row', {},
      el('span', {}, t('rating.label')),
      thumb('good', (event) => send(event, 'good', '')),
      thumb('bad', () => { form.hidden = false; area.focus() }),
      now.rating !== 'none' && button(t('rating.clear'), (event) => send(event, 'clear', ''), { 'data-focus': 'rate-clear' }),
      now.rating !== 'none' && el('span.rf-quiet', {}, [t(`rating.said.${now.rating}`), now.reason].filter(Boolean).join(': '))),
    form)
}
