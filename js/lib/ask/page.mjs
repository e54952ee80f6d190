/** The judge who is a person: shows what waits for an answer, image by image. Loaded with the first question. */
import { api, note } from '../comfy/app.mjs'
import { keepInside, patch } from '../dom.mjs'
import { post } from '../server.mjs'
import { onLanguage, t } from '../text.mjs'
import { askView } from './view.mjs'

/** @typedef {import('./view.mjs').Question} Question */

/** @type {Map<string, Question>} what is not answered yet, oldest first */
const questions = new Map()
/** @type {HTMLElement | null} */
let root = null
let trouble = ''
/** Put aside by the person: nothing is shown before the next question, or until it is asked for. */
let isAside = false
let isBusy = false
/** When the question came into view, in ms: a key that was meant for something else is no answer. */
let since = 0
const MEANT_MS = 400
let inView = ''
/** @type {Notification | null} */
let notified = null
/** @type {Record<string, string>} why a question is gone, as the server says it: the text for it */
const GONE = { '': 'gone_answered', CANCELLED: 'gone_cancelled', NOBODY_ANSWERED: 'gone_late' }

onLanguage(draw)

/** What the server says of a question: that it is open, or that it has ended. @param {any} said */
export function hear(said) {
  if (said?.phase === 'closed') forget(said.id, said.why)
  else if (typeof said?.id === 'string' && Array.isArray(said.images)) take(said)
}

export const known = () => [...questions.keys()]

/** What waits for this page now, in place of what was known before. @param {Question[]} open @param {string[]} before */
export function replace(open, before) {
  const ids = new Set(open.map(({ id }) => id))
  for (const id of before) if (!ids.has(id)) forget(id)
  for (const question of open) hear(question)
}

/** @param {Question} question */
function take(question) {
  // Only a page that says so is waited for; it is asked again when another page that had it is closed.
  post('ask', { id: question.id, seen: true, client: api.clientId ?? '' }).catch(failed)
  if (questions.has(question.id)) return
  questions.set(question.id, question)
  isAside = false
  notify()
  draw()
}

/** @param {string} id @param {string} [why] it ended, if the server said so */
function forget(id, why) {
  const isOurs = isBusy && current()?.id === id // this page's own answer ended it
  if (!questions.delete(id)) return
  trouble = ''
  if (!isOurs) note(t(`ask.${GONE[why ?? 'unknown'] ?? 'gone'}`), 'info')
  draw()
}

const current = () => questions.values().next().value ?? null
/** @param {Question} question */
const indexOf = (question) => question.images.findIndex((each) => !each.answered)

function draw() {
  const question = current()
  if (!question) notified?.close()
  if (!question || isAside) return hide()
  root ??= build()
  const index = indexOf(question)
  if (index < 0) return hide()
  if (inView !== `${question.id} ${index}`) since = performance.now()
  inView = `${question.id} ${index}`
  const address = api.apiURL(`/runflow-evaluate/ask/${encodeURIComponent(question.id)}/${index}`)
  const canNotify = globalThis.Notification?.permission === 'default'
  const waiting = questions.size - 1
  patch(root, askView({ question, index, waiting, address, trouble, canNotify }, acts))
  if (!root.isConnected) show(root)
}

function build() {
  const made = document.createElement('div')
  made.className = 'rf-inspector rf-ask'
  made.tabIndex = -1
  made.popover = 'manual'
  made.setAttribute('role', 'dialog')
  made.setAttribute('aria-labelledby', 'rf-ask-title')
  keepInside(made)
  made.addEventListener('keydown', pressed)
  return made
}

/** @param {HTMLElement} element */
function show(element) {
  document.body.append(element)
  element.showPopover?.()
  if (!isTyping()) element.focus({ preventScroll: true }) // not a button: Space and Enter answer nothing yet
}

/** Whether the person writes somewhere else: the focus is not taken away then. */
function isTyping() {
  const focused = document.activeElement
  return (
    focused instanceof HTMLElement && focused.matches('input, textarea, [contenteditable="true"]')
  )
}

function hide() {
  root?.remove()
  root = null
  inView = ''
}

const acts = {
  accept: () => answer(true),
  reject: () => answer(false),
  acceptAll: () => send({ accept_all: true }),
  later() {
    isAside = true
    hide()
    note(t('ask.aside'), 'info')
  },
  async notify() {
    await Notification.requestPermission()
    draw()
  }
}

/** @param {KeyboardEvent} event */
function pressed(event) {
  const typing = event.target instanceof HTMLElement && event.target.matches('textarea')
  const command = event.ctrlKey || event.metaKey
  if (typing && command && event.key === 'Enter') return acts.reject()
  if (typing || command || event.altKey || event.repeat) return
  if (performance.now() - since < MEANT_MS) return
  const key = event.key.toLowerCase()
  if (key === 'a') event.shiftKey ? acts.acceptAll() : acts.accept()
  else if (key === 'r') acts.reject()
  else if (key === 'escape') acts.later()
  else return
  event.preventDefault()
}

/** @param {boolean} accepted */
function answer(accepted) {
  const question = current()
  if (!question) return
  const index = indexOf(question)
  const prompt = written('prompt')
  const changed = prompt === question.images[index].prompt ? '' : prompt
  send({ index, accepted, reason: written('reason'), prompt: changed })
}

/** @param {string} name */
function written(name) {
  const field = root?.querySelector(`[data-focus="${name}"]`)
  return field instanceof HTMLTextAreaElement ? field.value.trim() : ''
}

/** @param {Record<string, unknown>} body */
async function send(body) {
  const question = current()
  if (!question || isBusy) return
  isBusy = true
  trouble = ''
  try {
    const { open } = await post('ask', { id: question.id, ...body })
    const index = Number(body.index ?? -1)
    for (const [at, each] of question.images.entries()) each.answered ||= at === index || open === 0
    if (open === 0) questions.delete(question.id)
  } catch (error) {
    if (/** @type {any} */ (error).status !== 404) failed(error)
    else if (questions.delete(question.id)) note(t('ask.gone'), 'info') // another tab was faster
  } finally {
    isBusy = false
    draw()
  }
}

/** @param {any} error */
function failed(error) {
  trouble = error.message
  draw()
}

/** On the desktop, where that is allowed and the page is out of sight. */
function notify() {
  if (!document.hidden || globalThis.Notification?.permission !== 'granted') return
  try {
    notified = new Notification(t('ask.title'), {
      body: t('plan.person'),
      tag: 'runflow-evaluate'
    })
  } catch (error) {
    return console.debug('Runflow Evaluate: this browser shows no notification', error)
  }
  notified.onclick = () => {
    window.focus()
    isAside = false
    draw()
  }
}
