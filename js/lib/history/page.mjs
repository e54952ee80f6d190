/** The sidebar: every evaluation in the journal, newest first. Loaded when somebody opens it. */
import { api, app, note } from '../comfy/app.mjs'
import { workflowId } from '../comfy/tabs.mjs'
import { keepInside, patch } from '../dom.mjs'
import { fetchWithin, post, request, save } from '../server.mjs'
import { knownOf, onEvaluations, rate } from '../state/evaluations.mjs'
import { onLanguage, t } from '../text.mjs'
import { showNode } from '../view/node_panels.mjs'
import { close, inspect, isOpen } from '../view/popover.mjs'
import { noQuery, parameters, Rows, VERDICTS } from './rows.mjs'
import { readVerdict } from './saved_file.mjs'
import { historyView, ROW } from './view.mjs'

/** @typedef {import('./rows.mjs').Row} Row */
/** @typedef {import('./rows.mjs').Query} Query */

const DAYS = 30
const TYPING_MS = 250
const BEYOND = 6
const STEPS = {
  ArrowDown: 1,
  ArrowUp: -1,
  PageDown: 10,
  PageUp: -10,
  Home: -Infinity,
  End: Infinity
}
const RATINGS = /** @type {const} */ ({ 1: 'good', 2: 'bad' })

/** What stays while the sidebar is closed: what is asked for is shown in its fields again. */
const state = {
  query: noQuery(),
  /** @type {import('./chart.mjs').Totals | null} */
  totals: null,
  newer: false,
  current: 0,
  /** @type {Set<number>} */
  busy: new Set()
}
const list = new Rows(draw)
/** @type {HTMLElement | null} */
let root = null
/** @type {ResizeObserver | null} */
let resizes = null
/** @type {ReturnType<typeof setTimeout> | undefined} */
let typing
let turn = 0
/** @type {import('../view/popover.mjs').Subject | null} */
let opened = null
let isListening = false

/** @param {HTMLElement} parent the sidebar's own element */
export function render(parent) {
  listen()
  root = document.createElement('div')
  root.className = 'rf-page rf-history'
  root.setAttribute('role', 'region')
  root.setAttribute('aria-label', t('history.title'))
  keepInside(root)
  takeFiles(root)
  parent.style.height = '100%'
  parent.replaceChildren(root)
  resizes = new ResizeObserver(draw)
  resizes.observe(root)
  refresh()
}

export function destroy() {
  resizes?.disconnect()
  if (opened && isOpen(opened)) close()
  root = null
}

/** Once: a run that ends, a rating, another language. */
function listen() {
  if (isListening) return
  isListening = true
  for (const name of ['execution_success', 'execution_error', 'execution_interrupted']) {
    api.addEventListener(name, ended)
  }
  onEvaluations(noteRatings)
  onLanguage(() => {
    root?.setAttribute('aria-label', t('history.title'))
    draw()
  })
}

/** A run has ended: who reads further down is told, and keeps the place. */
export function ended() {
  if (!root) return
  const { scrollTop = 0 } = scroller() ?? {}
  if (!scrollTop && !opened) return refresh()
  state.newer = true
  readTotals()
  draw()
}

/** Read again what is newest. */
function refresh() {
  state.newer = false
  state.current = 0
  if (state.query.workflow) state.query.workflow = workflowId()
  scroller()?.scrollTo?.(0, 0)
  list.ask(state.query)
  readTotals()
}

async function readTotals() {
  const own = ++turn
  const totals = await request(`days?days=${DAYS}`).catch(() => state.totals)
  if (own !== turn) return
  state.totals = totals
  draw()
}

/** @returns {HTMLElement | null} */
const scroller = () => root?.querySelector('.rf-list') ?? null

function draw() {
  if (!root) return
  const { first, last } = inSight()
  const given = { ...state, list, first, last, workflow: workflowId() }
  patch(root, historyView(given, acts))
  if (last + BEYOND >= list.rows.length && !list.trouble && list.query) list.more()
}

function inSight() {
  const { scrollTop = 0, clientHeight = 0 } = scroller() ?? {}
  return {
    first: Math.max(0, Math.floor(scrollTop / ROW) - BEYOND),
    last: Math.min(list.rows.length, Math.ceil((scrollTop + (clientHeight || 600)) / ROW) + BEYOND)
  }
}

/** @type {import('./view.mjs').Acts} */
const acts = {
  ask(change) {
    Object.assign(state.query, change)
    clearTimeout(typing)
    if ('search' in change && Object.keys(change).length === 1) {
      typing = setTimeout(refresh, TYPING_MS)
    } else refresh()
  },
  refresh,
  more: () => list.more(),
  file: readFile,
  save: (kind) => save(`history.${kind.toLowerCase()}`, parameters(state.query)),
  open,
  workflow: openWorkflow,
  collect,
  key,
  scrolled: draw
}

/** Look at an evaluation, beside the list; the arrows go on to the next one. @param {number} index */
function open(index) {
  const row = list.rows[index]
  if (!row) return
  state.current = index
  draw()
  const element = buttonOf(index)
  const subject = {
    read: () => ({
      ...{ items: [itemOf(row)], loop: null, picked: '', outdated: false },
      prompt: knownOf(row.id)?.prompt ?? row.prompt
    }),
    usePrompt: null,
    opener: () => buttonOf(index)
  }
  opened = subject
  inspect(/** @type {any} */ (subject), 0, besideList(element))
}

/** As high as the row, and as wide as the list: what opens there covers no row. @param {HTMLElement | null} row */
function besideList(row) {
  const whole = /** @type {HTMLElement} */ (root).getBoundingClientRect()
  const { top, height } = row?.getBoundingClientRect() ?? whole
  return new DOMRect(whole.left, top, whole.width, height)
}

/** @param {Row} row @returns {import('../types').Verdict} */
function itemOf(row) {
  const known = /** @type {any} */ (knownOf(row.id)) ?? {}
  const isVerdict = VERDICTS.includes(row.outcome)
  const outcome = /** @type {import('../types').Outcome} */ (isVerdict ? row.outcome : 'unknown')
  const why =
    row.issue ||
    (isVerdict ? '' : `${t(`history.outcome.${row.outcome}`)} ${row.failure ?? ''}`.trim())
  return {
    ...{
      id: row.id,
      image: row.image,
      judge: isVerdict ? (row.judge ?? 'runflow') : '',
      score: row.score
    },
    verdict: outcome,
    ...{ judged_by: row.judged_by ?? '', practice: row.practice === true },
    ...{ judges: [], strengths: [], notes: [], reused: false },
    issues: known.issues?.length ? known.issues : [why].filter(Boolean),
    improved_prompt: known.improved_prompt ?? '',
    cost: row.cost ?? '',
    seconds: row.seconds
  }
}

/** @param {any} event */
function key(event) {
  const from = Number(event.target.dataset?.index)
  if (!(from >= 0) || event.ctrlKey || event.metaKey || event.altKey) return
  const step = STEPS[/** @type {keyof typeof STEPS} */ (event.key)]
  const rating = RATINGS[/** @type {1 | 2} */ (event.key)]
  if (step === undefined && !rating) return
  event.preventDefault()
  if (rating) rateRow(list.rows[from], rating)
  else goTo(Math.min(list.rows.length - 1, Math.max(0, from + step)))
}

/** @param {number} index */
function goTo(index) {
  const box = scroller()
  if (!box) return
  state.current = index
  const [top, bottom] = [index * ROW, (index + 1) * ROW]
  if (top < box.scrollTop) box.scrollTop = top
  else if (bottom > box.scrollTop + box.clientHeight) box.scrollTop = bottom - box.clientHeight
  draw()
  buttonOf(index)?.focus({ preventScroll: true })
  if (opened && isOpen(opened)) open(index)
}

/** @param {number} index @returns {HTMLElement | null} */
const buttonOf = (index) => root?.querySelector(`[data-index="${index}"]`) ?? null

/** @param {Row} row @param {'good' | 'bad'} rating */
async function rateRow(row, rating) {
  if (!row?.id || (row.judge && row.judge !== 'runflow'))
    return note(t('history.not_rated'), 'info')
  try {
    await rate(row.id, rating, '')
  } catch (error) {
    note(t('rating.failed', { message: /** @type {Error} */ (error).message }), 'error')
  }
}

/** What is rated anywhere shows here. */
function noteRatings() {
  for (const row of list.rows) {
    const feedback = knownOf(row.id)?.feedback
    if (feedback) row.feedback = feedback
  }
  draw()
}

/** An image that is dropped here is read here, and its workflow is not opened. @param {HTMLElement} parent */
function takeFiles(parent) {
  for (const name of ['dragover', 'drop'])
    parent.addEventListener(name, (/** @type {any} */ event) => {
      if (!event.dataTransfer?.types.includes('Files')) return
      event.preventDefault()
      event.stopPropagation()
      if (name === 'drop') readFile(event.dataTransfer.files[0])
    })
}

/** Show what a saved image says of its verdict, and its evaluation in the list if it is known here. */
/** @param {File | undefined} file */
async function readFile(file) {
  const said = file && (await readVerdict(file, t('history.file_says')))
  if (!said) return file && note(t('history.file_silent', { name: file.name }), 'info')
  if (await isKnown(said.item.id)) {
    state.query = { ...noQuery(), search: /** @type {string} */ (said.item.id) }
    refresh()
  } else Object.assign(said.item, { id: null, image: '' }) // nothing more is to be had here
  const subject = {
    read: () => ({
      items: [said.item],
      loop: null,
      picked: '',
      outdated: false,
      prompt: said.prompt
    }),
    usePrompt: null,
    opener: () => root?.querySelector('[data-focus="file"]') ?? null
  }
  opened = /** @type {any} */ (subject)
  inspect(/** @type {any} */ (subject), 0, besideList(null))
}

/** Whether this history has an evaluation. @param {string | null} id */
async function isKnown(id) {
  if (!id) return false
  const found = await request(`history?${new URLSearchParams({ search: id })}`).catch(() => null)
  return Boolean(found?.rows.some((/** @type {Row} */ row) => row.id === id))
}

/** Ask once for what is under way. @param {Row} row */
async function collect(row) {
  if (state.busy.has(row.row)) return
  state.busy.add(row.row)
  draw()
  try {
    const { row: now } = await post('collect', { id: row.id })
    list.replace(now)
    if (now.outcome === 'open') note(t('history.still_open'), 'info')
  } catch (error) {
    note(/** @type {Error} */ (error).message, 'error')
  } finally {
    state.busy.delete(row.row)
    draw()
  }
}

/** Show the node that shows it; else open the workflow that made it, while ComfyUI's own history has it. */
/** @param {Row} row */
async function openWorkflow(row) {
  if (row.id && showNode(row.id)) return
  const workflow = await workflowOf(row.prompt_id ?? '')
  if (!workflow) return note(t('history.no_workflow'), 'info')
  await app.loadGraphData(workflow, true, true, null)
}

/** @param {string} promptId */
async function workflowOf(promptId) {
  if (!promptId) return null
  try {
    const answer = await fetchWithin(`/history/${encodeURIComponent(promptId)}`, {})
    const found = await answer.json()
    return found[promptId]?.prompt?.[3]?.extra_pnginfo?.workflow ?? null
  } catch {
    return null
  }
}
