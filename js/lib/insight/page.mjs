/** The sidebar's second page: what the journal tells about settings and judges. Loaded when somebody opens it. */
import { keepInside, patch } from '../dom.mjs'
import { request, save } from '../server.mjs'
import { onLanguage, t } from '../text.mjs'
import { rateImages } from './rating.mjs'
import { insightView } from './view.mjs'

/** @type {import('./view.mjs').Given} what stays while the sidebar is closed */
const state = {
  query: { by: 'checkpoint', and: '', days: 0, wrong_pass: 1, wrong_rejection: 1 },
  shown: null,
  trouble: ''
}
/** @type {HTMLElement | null} */
let root = null
let turn = 0
let isListening = false

/** @param {HTMLElement} parent the sidebar's own element */
export function render(parent) {
  root = document.createElement('div')
  root.className = 'rf-page rf-history'
  root.setAttribute('role', 'region')
  keepInside(root)
  parent.style.height = '100%'
  parent.replaceChildren(root)
  if (!isListening) onLanguage(draw)
  isListening = true
  draw()
  refresh()
}

export function destroy() {
  root = null
}

/** What the routes take, without what is as it always is. */
function parameters() {
  const { by, and, days, wrong_pass, wrong_rejection } = state.query
  return {
    by: and && and !== by ? `${by},${and}` : by,
    days: String(days),
    wrong_pass: String(wrong_pass),
    wrong_rejection: String(wrong_rejection)
  }
}

async function refresh() {
  const own = ++turn
  try {
    const shown = await request(`insight?${new URLSearchParams(parameters())}`)
    if (own !== turn) return
    Object.assign(state, { shown, trouble: '' })
  } catch (error) {
    if (own !== turn) return
    state.trouble = /** @type {Error} */ (error).message
  }
  draw()
}

function draw() {
  root?.setAttribute('aria-label', t('insight.title'))
  if (root) patch(root, insightView(state, acts))
}

/** @type {import('./view.mjs').Acts} */
const acts = {
  ask(change) {
    Object.assign(state.query, change)
    draw()
    refresh()
  },
  refresh,
  save: () => save('insight.csv', parameters()),
  rate: () => rateImages(refresh)
}
