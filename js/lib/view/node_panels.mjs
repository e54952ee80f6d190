/** The panels of all nodes: which nodes have one, what each shows, and when it is drawn anew. */
import { listen as listenForQuestions, readOpenOnce } from '../ask/listen.mjs'
import { api, app, chain, drawsElements, reveal, rootGraph } from '../comfy/app.mjs'
import { badge, hideProgressText, openSettings, putBack } from '../comfy/compat.mjs'
import { onOpened, workflowId } from '../comfy/tabs.mjs'
import { patch } from '../dom.mjs'
import { score } from '../format.mjs'
import { onStatus, status } from '../server.mjs'
import { isHere, listen, read, trouble } from '../state/events.mjs'
import { executionId, Survey } from '../comfy/links.mjs'
import { madeFrom } from '../state/made_from.mjs'
import { plan } from '../state/plan.mjs'
import { shownOf, Store } from '../state/store.mjs'
import { onLanguage } from '../text.mjs'
import { showHeaderBadges } from './header_badges.mjs'
import { say } from './live.mjs'
import { briefPrice, contentOf, outcomeOf, panelView, spoken } from './panel.mjs'
import { SIGNS } from './score.mjs'
import { showSelected } from './strip.mjs'

/** @typedef {import('../types').GraphNode} GraphNode */
/**
 * @typedef {object} Panel
 * @property {GraphNode} node
 * @property {HTMLElement} element
 * @property {'line' | 'whole'} size
 * @property {import('./panel.mjs').Given | null} given what it shows
 * @property {number} selected
 * @property {string} subject the identity that `selected` belongs to
 * @property {string} said
 */

/** What is drawn in one go, in ms: the page stays smooth with hundreds of panels. */
const SLICE_MS = 12
const SECOND_MS = 1000
/** Zoomed out further than this, a panel says its outcome and nothing else; than that, a badge in the title says it. */
const FAR = 0.55
const TINY = 0.3
const ZOOMED_MS = 120
const COLOURS = {
  passed: '#0b6b31',
  failed: '#9b1c1c',
  unknown: '#6b4a00',
  stopped: '#6b4a00',
  waiting: '#15448f',
  idle: '#3a3a3a'
}

/** @type {Map<GraphNode, Panel>} */
const panels = new Map()
/** @type {Set<Panel>} */
const waiting = new Set()
const store = new Store()
/** @type {ReturnType<typeof setTimeout> | undefined} */
let drawing
/** @type {ReturnType<typeof setTimeout> | undefined} */
let ticking

/** Listen to what happens; nothing is asked while no node has a panel. */
export function start() {
  listen(store, allMadeFrom)
  listenForQuestions()
  hideProgressText((id) => panelOf(id.split('.')[0]) !== undefined)
  store.subscribe((workflow) => workflow === workflowId() && draw())
  api.addEventListener('graphChanged', draw)
  for (const name of ['execution_success', 'execution_error', 'execution_interrupted'])
    api.addEventListener(name, draw)
  app.canvas?.canvas?.addEventListener('litegraph:set-graph', draw)
  document.addEventListener('wheel', () => setTimeout(followZoom, ZOOMED_MS), {
    capture: true,
    passive: true
  })
  onStatus(draw)
  onLanguage(draw)
  onOpened(restore)
}

/**
 * Fill a panel that was put on a node.
 * @param {GraphNode} node @param {HTMLElement} element @param {'line' | 'whole'} size
 */
export function adopt(node, element, size) {
  /** @type {Panel} */
  const panel = { node, element, size, given: null, selected: -1, subject: '', said: '' }
  panels.set(node, panel)
  addBadge(node, () => (panel.given && !isLegible(node) ? panel.given : null))
  chain(node, 'onRemoved', () => forget(panel))
  draw()
}

/** A subgraph's own node says what did worst inside. @param {GraphNode} host */
export const adoptHost = (host) => addBadge(host, () => worstInside(host))

/** Whether a panel can be read where it is now. @param {GraphNode} node */
const isLegible = ({ flags }) =>
  !flags?.collapsed && (drawsElements() || app.canvas.ds.scale >= TINY)

/** @param {Panel} panel */
function forget(panel) {
  panels.delete(panel.node)
  waiting.delete(panel)
  if (inspectedNow?.panel === panel) import('./popover.mjs').then(({ refresh }) => refresh()) // it has nothing to show
}

/** The workflow whose nodes' states were read: events tell what comes after. */
let opened = ''

/** A workflow was opened: read what its nodes showed, if it has any of ours. Undo opens the one that is open. */
export function restore() {
  sweep()
  draw()
  const isOurs = [...panels.keys()].some(({ graph }) => graph)
  if (!isOurs || opened === workflowId()) return
  opened = workflowId()
  read(store)
  readOpenOnce()
}

/**
 * Undo and other tabs leave nodes behind that nobody removed: `LGraph.clear` told no subgraph's before 1.58, and a
 * graph remembers subgraphs that are in it no more. A node that is in no graph yet may still be put into one.
 */
function sweep() {
  const open = new Set([rootGraph()])
  for (const graph of open) for (const { subgraph } of graph.nodes) if (subgraph) open.add(subgraph)
  for (const panel of panels.values())
    if (panel.node.graph && !open.has(panel.node.graph)) forget(panel)
}

/** Many events come at once: draw once, when they have passed, and in slices. */
export function draw() {
  if (drawing === undefined) drawing = setTimeout(drawAll)
}

async function drawAll() {
  drawing = undefined
  sweep()
  if (!panels.size) return
  askStatus()
  followZoom()
  const seen = { survey: new Survey(rootGraph()), known: new Map(), status: known }
  let began = performance.now()
  for (const panel of [...panels.values()]) {
    if (performance.now() - began > SLICE_MS) {
      await new Promise((go) => setTimeout(go))
      began = performance.now()
    }
    if (panels.has(panel.node)) drawPanel(panel, seen)
  }
  showBadges()
  tick()
}

/** @type {import('../types').Status | null} what the server said last: nothing waits for it */
let known = null

async function askStatus() {
  const found = await status()
  if (found === known) return
  known = found
  draw()
}

/** A node that shows a verdict says what the next one costs. @param {GraphNode} node @param {Survey} survey @param {any} now */
function planOf(node, survey, now) {
  const own = plan(node, survey, now)
  const [place] = survey.places.get(node) ?? []
  const judged = place && !own.warns && survey.source(place, 'evaluation').place?.node
  return judged ? { ...plan(judged, survey, now), remedy: own.remedy } : own
}

/**
 * @param {Panel} panel
 * @param {{survey: Survey, known: Map<string, string>, status: import('../types').Status | null}} seen
 */
function drawPanel(panel, { survey, known, status: now }) {
  const { node, element } = panel
  if (!node.graph) return
  putBack(node, element)
  const places = new Map(
    (survey.places.get(node) ?? []).map((place) => [executionId(place), place])
  )
  const states = [...places.keys()]
    .flatMap((id) => store.of(workflowId(), id))
    .sort((a, b) => b.at - a.at)
  const made = (/** @type {string} */ id) => {
    const place = places.get(id)
    return place && madeFrom(place, survey, known)
  }
  const { state, outdated } = shownOf(states, made, isHere)
  const subject = `${state?.identity} ${state?.phase}`
  if (subject !== panel.subject) Object.assign(panel, { subject, selected: contentOf(state).worst })
  panel.given = {
    size: panel.size,
    state,
    outdated,
    plan: planOf(node, survey, now),
    usual: now?.usual ?? null,
    trouble: trouble.text,
    selected: panel.selected,
    picked: node.properties?.runflow_picked ?? '',
    now: Date.now()
  }
  show(panel)
}

/** @param {Panel} panel */
function show(panel) {
  const { element, given } = panel
  if (!given) return
  const outcome = outcomeOf(given)
  element.dataset.outcome = outcome
  element.dataset.outdated = String(given.outdated)
  element.dataset.size = panel.size
  patch(element, panelView(given, actsOf(panel)))
  showSelected(element)
  const said = spoken(given)
  if (panel.said && said !== panel.said && panel.size === 'whole')
    say(`${panel.node.title}: ${said}`)
  panel.said = said
  if (outcome === 'waiting') waiting.add(panel)
  else waiting.delete(panel)
  if (inspectedNow?.panel === panel) import('./popover.mjs').then(({ refresh }) => refresh())
}

/** From far away only the outcome can be read. */
function followZoom() {
  document.documentElement.toggleAttribute('data-rf-far', app.canvas.ds.scale < FAR)
}

/** Seconds tick while something waits. */
function tick() {
  clearTimeout(ticking)
  if (!waiting.size) return
  ticking = setTimeout(() => {
    for (const panel of waiting) {
      if (panel.given) panel.given.now = Date.now()
      show(panel)
    }
    tick()
  }, SECOND_MS)
}

/** @returns {Record<string, string>} what each node with a panel is made from, by its execution id */
function allMadeFrom() {
  sweep()
  if (!panels.size) return {}
  const survey = new Survey(rootGraph())
  const known = new Map()
  const places = [...panels.keys()].flatMap((node) => survey.places.get(node) ?? [])
  return Object.fromEntries(
    places.map((place) => [executionId(place), madeFrom(place, survey, known)])
  )
}

/** @param {string} id an execution id */
const panelOf = (id) =>
  [...panels.values()].find(({ node }) => String(node.id) === id.split(':').at(-1))

// --- what is pressed --------------------------------------------------------------------------------

/** @type {{panel: Panel, subject: import('./popover.mjs').Subject} | null} */
let inspectedNow = null

/** @param {Panel} panel @returns {import('./panel.mjs').Acts} */
function actsOf(panel) {
  return {
    open: () => openDetails(panel),
    choose: (index, opens) => {
      panel.selected = index
      if (panel.given) panel.given.selected = index
      show(panel)
      if (opens) openDetails(panel)
    },
    cancel: () => api.interrupt(panel.given?.state?.prompt ?? null),
    mend: (remedy) => mend(panel, remedy)
  }
}

/** @param {Panel} panel @param {string} remedy */
async function mend({ node }, remedy) {
  if (remedy === 'key') return openSettings()
  const { showVerdict } = await import('../gestures/commands.mjs')
  showVerdict(node)
}

/** @param {Panel} panel */
async function openDetails(panel) {
  const { inspect } = await import('./popover.mjs')
  const gestures = await import('../gestures/take_attempt.mjs')
  const { node } = panel
  const loop = () => contentOf(panel.given?.state ?? null).loop
  const subject = {
    read: () => inspected(panel),
    offer: (/** @type {any} */ item) => {
      const own = loop()
      return own && gestures.attemptOffer(node, own, item)
    },
    take: (/** @type {any} */ item) => {
      const own = loop()
      const said = own ? gestures.takeAttempt(node, own, item) : ''
      draw()
      return said
    },
    usePrompt: (/** @type {string} */ text) => {
      const said = gestures.usePrompt(node, text)
      draw()
      return said
    },
    opener: () =>
      /** @type {HTMLElement | null} */ (panel.element.querySelector('[data-focus="action"]')),
    chosen: (/** @type {number} */ index) => actsOf(panel).choose(index, false)
  }
  inspectedNow = { panel, subject }
  inspect(subject, Math.max(0, panel.selected), panel.element.getBoundingClientRect())
}

/** @param {Panel} panel */
function inspected({ node, given }) {
  if (!panels.has(node) || !given?.state) return null
  const { items, loop } = contentOf(given.state)
  if (given.state.phase === 'done')
    return { items, loop, picked: given.picked, outdated: given.outdated, prompt: '' }
  const { message, phase } = given.state
  const waits = phase === 'waiting'
  return { items: [unjudged(message)], loop: null, picked: '', outdated: false, prompt: '', waits }
}

/** @param {string} message @returns {import('../types').Verdict} */
const unjudged = (message) => ({
  id: null,
  image: '',
  judge: '',
  practice: false,
  verdict: 'unknown',
  score: null,
  issues: [message],
  notes: [],
  strengths: [],
  judges: [],
  improved_prompt: '',
  cost: '',
  seconds: null,
  reused: false
})

/** Bring the node that shows this evaluation into view. @param {string} evaluationId @returns {boolean} */
export function showNode(evaluationId) {
  for (const { node, given } of panels.values()) {
    const { items } = contentOf(given?.state ?? null)
    if (!items.some(({ id }) => id === evaluationId)) continue
    reveal(node)
    return true
  }
  return false
}

// --- badges -----------------------------------------------------------------------------------------

/** @type {WeakMap<GraphNode, () => {text: string, color: string} | null>} */
const badges = new WeakMap()

/** @param {GraphNode} node @param {() => import('./panel.mjs').Given | null} read what it is about, null for none */
function addBadge(node, read) {
  const told = () => badgeOf(node, read())
  badges.set(node, told)
  chain(node, 'collapse', draw)
  const empty = badge({ text: '', fgColor: '#fff', bgColor: '#000' })
  if (!empty || !Array.isArray(node.badges)) return
  node.badges.push(() => {
    const now = drawsElements() ? null : told()
    return now ? badge({ text: now.text, fgColor: '#fff', bgColor: now.color }) : empty
  })
}

/** @param {GraphNode} node @param {import('./panel.mjs').Given | null} given */
function badgeOf(node, given) {
  const outcome = given ? outcomeOf(given) : ''
  const color = COLOURS[/** @type {keyof typeof COLOURS} */ (outcome)]
  if (!given || !color) return null
  const { sum } = contentOf(given.state)
  const reached = given.state?.phase === 'done' && sum.score !== null && score(sum.score)
  const price = (node.flags?.collapsed || node.subgraph) && briefPrice(given.plan)
  const said = reached ? `${SIGNS[outcome]} ${reached}` : SIGNS[outcome]
  return { text: [said, price].filter(Boolean).join(reached ? ' · ' : ' '), color }
}

/** Those of the open graph, where nodes are elements. */
function showBadges() {
  const nodes = drawsElements() ? (app.canvas.graph?.nodes ?? []) : []
  showHeaderBadges(
    nodes.flatMap((node) => {
      const told = badges.get(node)?.()
      return told ? [{ id: node.id, ...told }] : []
    })
  )
}

/** What did worst inside a subgraph, with the price of its Evaluate where it has one. @param {GraphNode} host */
function worstInside(host) {
  const order = ['failed', 'stopped', 'unknown', 'waiting', 'passed', 'idle']
  const inside = [...panels.values()]
    .filter(({ node }) => node.graph === host.subgraph)
    .flatMap(({ given }) => given ?? [])
    .sort((a, b) => order.indexOf(outcomeOf(a)) - order.indexOf(outcomeOf(b)))
  const priced = inside.filter(({ size, plan: own }) => size === 'line' && own?.price)
  return inside.length ? { ...inside[0], plan: priced.length === 1 ? priced[0].plan : null } : null
}
