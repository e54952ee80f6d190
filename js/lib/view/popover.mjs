/** One popover in the page's top layer, beside what opened it: the inspector of panels and of the history. */
import { copy, keepInside, patch } from '../dom.mjs'
import { knownOf, load, onEvaluations, rate } from '../state/evaluations.mjs'
import { onLanguage, t } from '../text.mjs'
import { inspectorView } from './inspector.mjs'
import { say } from './live.mjs'
import { showSelected } from './strip.mjs'

const GAP = 8
const COPIED_MS = 2000

/**
 * @typedef {Omit<import('./inspector.mjs').Given, 'index' | 'more' | 'ui' | 'offer'> & {waits?: boolean}} Found
 *   `waits`: the next verdict is on its way, and there is nothing to look at yet
 *
 * @typedef {object} Subject what is looked at; asked for anew whenever something changed
 * @property {() => Found | null} read
 * @property {(item: any) => import('../types').Offer | null} [offer]
 * @property {(item: any) => string} [take] gives what was said of it, as `usePrompt` does
 * @property {((text: string) => string) | null} usePrompt
 * @property {() => HTMLElement | null} opener where the focus goes back to
 * @property {(index: number) => void} [chosen]
 */

/** @type {HTMLElement | null} */
let root = null
/** @type {Subject | null} */
let subject = null
let index = 0
/** @type {DOMRect | null} what it stands beside */
let anchor = null
/** Its upper edge is never below this while it is open: it goes up to have room, and not down again. */
let highest = Infinity
/** @type {string | null} the evaluation that was read last */
let read = null
/** @type {Found | null} what it showed last */
let shown = null
/** @type {import('./inspector.mjs').Given['ui']} */
let ui

const closed = () => ({
  asks: false,
  trouble: '',
  said: '',
  copied: '',
  large: false,
  pair: null,
  share: 50
})

/** Look at an image of a subject. @param {Subject} wanted @param {number} at @param {DOMRect} beside */
export function inspect(wanted, at, beside) {
  root ??= build()
  subject = wanted
  index = at
  ui = closed()
  read = null
  shown = null
  root.hidden = false
  if (root.showPopover && !root.matches(':popover-open')) root.showPopover()
  anchor = beside
  highest = Infinity
  refresh()
  const close = root.querySelector('[data-focus="close"]')
  if (close instanceof HTMLElement) close.focus({ preventScroll: true })
}

/** Whether it shows this subject. @param {Subject} [wanted] */
export const isOpen = (wanted) => subject !== null && (!wanted || wanted === subject)

export function close() {
  if (!root || !subject) return
  const opener = subject.opener()
  subject = null
  if (root.hidePopover && root.matches(':popover-open')) root.hidePopover()
  root.hidden = true
  patch(root)
  opener?.focus({ preventScroll: true })
}

/** Show what is known now. */
export function refresh() {
  const now = subject?.read()
  if (!root || !subject) return
  if (!now?.items.length) return close()
  const found = held(now)
  shown = found
  index = Math.min(index, found.items.length - 1)
  const item = found.items[index]
  if (item.id !== read) load(item.id) // once, also where it cannot be read
  read = item.id
  const offer = found === now ? (subject.offer?.(item) ?? null) : null
  patch(
    root,
    inspectorView({ ...found, index, more: knownOf(item.id), offer, ui }, acts(found.items))
  )
  root.dataset.large = String(ui.large)
  showSelected(root)
  place()
}

/**
 * What is read, and the reason that a person types, are about the verdict that is shown: it stays while the next one
 * is on its way, and until the reason is sent or the popover is closed.
 * @param {Found} now @returns {Found}
 */
function held(now) {
  if (!shown || now.waits) return shown ?? now
  if (now.items[index]?.id === shown.items[index]?.id) return now
  const reason = /** @type {any} */ (ui.asks && root?.querySelector('[data-focus="reason"]'))
  return reason?.value?.trim() ? { ...shown, outdated: true } : now
}

/** @param {any[]} items @returns {import('./inspector.mjs').Acts} */
function acts(items) {
  const item = items[index]
  const { take, usePrompt } = subject ?? {}
  return {
    close,
    choose: (to) => {
      index = to
      ui = { ...closed(), large: ui.large }
      subject?.chosen?.(to)
      refresh()
    },
    usePrompt: usePrompt ? (text) => show({ said: usePrompt(text) }) : null,
    take: (one) => show({ said: take?.(one) ?? '' }),
    rate: (rating, reason) => send(item, rating, reason),
    copy: async (text, name, beside) => {
      await copy(text, beside)
      show({ copied: name })
      setTimeout(() => ui.copied === name && show({ copied: '' }), COPIED_MS)
    },
    show,
    readAll: () =>
      items.forEach((each) => {
        load(each.id)
      })
  }
}

/** @param {Partial<import('./inspector.mjs').Given['ui']>} change */
function show(change) {
  const asked = change.asks && !ui.asks
  ui = { ...ui, ...change }
  refresh()
  const reason = asked && root?.querySelector('[data-focus="reason"]')
  if (reason instanceof HTMLElement) reason.focus()
}

/** @param {any} item @param {'good' | 'bad' | 'clear'} rating @param {string} reason */
async function send(item, rating, reason) {
  try {
    const { rating: now } = await rate(item.id, rating, reason)
    show({ asks: false, trouble: '' })
    say(t(`rating.said.${now}`))
  } catch (error) {
    show({ trouble: /** @type {Error} */ (error).message })
  }
}

function build() {
  const made = document.createElement('div')
  made.className = 'rf-inspector'
  made.setAttribute('role', 'dialog')
  made.setAttribute('popover', 'manual')
  made.setAttribute('aria-label', t('panel.details'))
  document.body.append(made)
  keepInside(made)
  made.addEventListener('keydown', (event) => event.key === 'Escape' && close())
  // An image that was read, a judge that was opened: it grows without being drawn anew.
  new ResizeObserver(place).observe(made)
  window.addEventListener('resize', place)
  onEvaluations(refresh)
  onLanguage(() => {
    made.setAttribute('aria-label', t('panel.details'))
    refresh()
  })
  return made
}

/** Beside it, where there is more room, and never outside the window, also when it grows. */
function place() {
  if (!root || root.hidden || !anchor) return
  const { innerWidth, innerHeight } = window
  const { offsetWidth: width, offsetHeight: height } = root
  const right = anchor.right + GAP + width <= innerWidth
  const left = right ? anchor.right + GAP : anchor.left - GAP - width
  highest = Math.min(highest, anchor.top, innerHeight - height - GAP)
  root.style.left = `${Math.max(GAP, Math.min(left, innerWidth - width - GAP))}px`
  root.style.top = `${Math.max(GAP, highest)}px`
}
