/** Thumbs: what the person thinks of the verdict, as Runflow has it. */
import { button, el, svg } from './dom.mjs'
import { t } from './text.mjs'

const MOST_CHARACTERS = 2000
/** Drawn, because not every machine has a font with them. */
const THUMB = 'M5 7v7H2V7h3zm1 0 3-5.5c1.2 0 1.8.9 1.6 2L10.2 6h3.1c.9 0 1.5.8 1.3 1.7l-1.2 5c-.2.8-.8 1.3-1.6 1.3H6V7z'

/**
 * @param {{rating: string, reason: string}} [now] what is set
 * @param {object} host `rate(rating, reason)` resolves when Runflow has taken it; `note(text)`
 */
export function rating(now = { rating: 'none', reason: '' }, host) {
  const label = t('rating.reason')
  const area = el('textarea.rf-input', { rows: 2, maxlength: MOST_CHARACTERS, 'aria-label': label, placeholder: label, 'data-focus': 'reason' })
  area.value = now.reason
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
  const form = el('div.rf-reason', { hidden: true }, area,
    button(t('rating.send'), (event) => send(event, 'bad', area.value.trim()), { 'data-focus': 'send-reason' }))
  const thumb = (value, onclick) => button(icon(value), onclick, {
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

function icon(value) {
  const turn = value === 'bad' ? { transform: 'rotate(180 8 8)' } : {}
  return svg('svg', { viewBox: '0 0 16 16', width: 14, height: 14, 'aria-hidden': 'true', class: 'rf-thumb' }, svg('path', { d: THUMB, fill: 'currentColor', ...turn }))
}
