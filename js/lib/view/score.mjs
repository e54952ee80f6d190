/** The smallest parts of a verdict: its outcome as a pill, the bar of its score, a picture, what it cost. */
import { element } from '../dom.mjs'
import { score, seconds } from '../format.mjs'
import { t } from '../text.mjs'

/** Nothing is told by colour alone. */
/** @type {Record<string, string>} */
export const SIGNS = {
  passed: '✓',
  failed: '✕',
  unknown: '?',
  waiting: '…',
  idle: '○',
  stopped: '!'
}

/** @param {string} outcome @param {string} title */
export function pill(outcome, title) {
  return element(
    'strong.rf-pill',
    { 'data-outcome': outcome },
    element('span', { 'aria-hidden': 'true' }, SIGNS[outcome] ?? ''),
    ` ${title}`
  )
}

/**
 * The bar, with a tick at the score that is needed.
 * @param {number | null} value @param {number} least 0 for none
 */
export function meter(value, least) {
  const percent = (/** @type {number} */ each) =>
    `${Math.round(100 * Math.min(1, Math.max(0, each)))}%`
  if (value === null) return element('div.rf-track', { 'aria-hidden': 'true' })
  const said =
    least > 0 ? t('panel.score_of', { score: score(value), least: score(least) }) : score(value)
  return element(
    'div.rf-track',
    {
      role: 'meter',
      'aria-label': t('panel.score'),
      'aria-valuemin': 0,
      'aria-valuemax': 1,
      'aria-valuenow': value,
      'aria-valuetext': said,
      title: said
    },
    element('div.rf-fill', { style: `width:${percent(value)}` }),
    least > 0 && element('div.rf-tick', { style: `left:${percent(least)}` })
  )
}

/**
 * A thumbnail; the number of the image where none was kept.
 * @param {string} address "" for none @param {number | string} number
 */
export function picture(address, number) {
  return element(
    'span.rf-picture',
    { key: address || `number ${number}` },
    element('span.rf-number', { 'aria-hidden': 'true' }, number),
    address &&
      element('img', {
        src: address,
        alt: '',
        draggable: 'false',
        loading: 'lazy',
        decoding: 'async',
        onerror: (/** @type {any} */ event) => event.currentTarget.remove()
      })
  )
}

/** Only Runflow costs something; nobody takes no time. */
/** @param {{judge: string, reused: boolean, cost: string, seconds: number | null}} verdict */
export function costAndTime({ judge, reused, cost, seconds: time }) {
  if (judge === 'off') return []
  if (reused) return [t('panel.reused')]
  return [seconds(time), judge === 'runflow' && cost && t('panel.credits', { cost })].filter(
    Boolean
  )
}
