/** What a person is asked about one image: pure functions from a question to descriptions. */
import { button, element } from '../dom.mjs'
import { t } from '../text.mjs'

/**
 * @typedef {object} AskedImage
 * @property {string} prompt
 * @property {string} instructions
 * @property {import('../types').Verdict | null} verdict what another judge said
 * @property {string} image the hash of its pixels
 * @property {boolean} answered
 *
 * @typedef {object} Question
 * @property {string} id
 * @property {string} node
 * @property {AskedImage[]} images
 *
 * @typedef {object} Given
 * @property {Question} question
 * @property {number} index
 * @property {number} waiting how many other questions wait
 * @property {string} address of the image
 * @property {string} trouble
 * @property {boolean} canNotify whether the person can still be asked for leave to notify
 *
 * @typedef {object} Acts
 * @property {() => void} accept
 * @property {() => void} reject
 * @property {() => void} acceptAll
 * @property {() => void} later
 * @property {() => void} notify
 */

/** @param {Given} given @param {Acts} acts */
export function askView(given, acts) {
  const { question, index, address, trouble } = given
  const asked = question.images[index]
  const field = { class: 'rf-input', maxlength: 2000 }
  return [
    headView(given, acts),
    element(
      'div.rf-inside',
      { key: `${question.id} ${index}` },
      element('img.rf-asked', { src: address, alt: t('details.image') }),
      ...requirements(asked),
      ...said(asked.verdict),
      element(
        'label',
        {},
        t('ask.reason'),
        element('textarea', { ...field, rows: 2, 'data-focus': 'reason' })
      ),
      element(
        'label',
        {},
        t('ask.prompt'),
        element('textarea', {
          ...field,
          maxlength: 10_000,
          rows: 3,
          'data-focus': 'prompt',
          value: asked.prompt
        })
      ),
      trouble && element('p.rf-warn', { role: 'alert' }, trouble)
    ),
    footView(given, acts)
  ]
}

/** @param {Given} given @param {Acts} acts */
function headView({ question, index, waiting, canNotify }, acts) {
  const all = question.images.length
  return element(
    'div.rf-head',
    {},
    element('b', { id: 'rf-ask-title' }, t('ask.title')),
    all > 1 && element('span.rf-quiet', {}, t('panel.nth', { n: index + 1, all })),
    waiting > 0 && element('span.rf-quiet', {}, t('ask.more', { n: waiting })),
    element('span.rf-space'),
    canNotify && button(t('ask.notify'), acts.notify),
    button(t('ask.later'), acts.later, { title: t('ask.later_tip') })
  )
}

/** @param {Given} given @param {Acts} acts */
function footView({ question }, acts) {
  const open = question.images.filter((each) => !each.answered).length
  const keys = (/** @type {string} */ key, /** @type {string} */ name) => ({
    'aria-keyshortcuts': key,
    'data-focus': name
  })
  return element(
    'div.rf-row.rf-ask-foot',
    {},
    button(t('ask.accept'), acts.accept, keys('A', 'accept')),
    button(t('ask.reject'), acts.reject, keys('R', 'reject')),
    open > 1 &&
      button(t('ask.accept_all', { n: open }), acts.acceptAll, keys('Shift+A', 'accept_all'))
  )
}

/** @param {AskedImage} asked */
function requirements({ prompt, instructions }) {
  return [
    prompt &&
      element(
        'div',
        {},
        element('h4', {}, t('history.prompt')),
        element('p.rf-prompt', {}, prompt)
      ),
    instructions &&
      element(
        'div',
        {},
        element('h4', {}, t('ask.requirements')),
        element('p.rf-prompt', {}, instructions)
      )
  ]
}

/** What another judge said first. @param {AskedImage['verdict']} verdict */
function said(verdict) {
  if (!verdict) return []
  const lines = (verdict.issues ?? []).map((/** @type {string} */ line) => element('li', {}, line))
  return [
    element('div.rf-wrong', {}, element('h4', {}, t('ask.said')), element('ul', {}, ...lines))
  ]
}
