/**
 * *Take this attempt*, *Use the winning prompt and seed*, *Use it*: write to where the values come from, or say that
 * it cannot be done, before anything is written.
 */
import { change, note, rootGraph } from '../comfy/app.mjs'
import { executionId, isLinked, kind, placeOf, Survey, sourceOf, widget } from '../comfy/links.mjs'
import { whatChanges } from '../state/changes.mjs'
import { t } from '../text.mjs'
import { fixSeed, madeBy, promptOf, setWidget, writable } from './values.mjs'

/** @typedef {import('../types').GraphNode} GraphNode */
/** @typedef {import('../types').Graph} Graph */
/** @typedef {import('../types').Widget} Widget */
/** @typedef {import('../types').Offer} Offer */
/** @typedef {import('../comfy/links.mjs').Place} Place */
/** @typedef {{node: GraphNode, widget: Widget, value: unknown}} Write */
/** @typedef {{start: string, winner?: {number: number}}} OfLoop */
/** @typedef {{number: number, prompt: string, seed: string, image: string, verdict: string}} OfAttempt */

/** What the editor would make something else of, in a text widget with dynamic prompts. */
const DYNAMIC = /[{}]|\/\/|\/\*/
/** What Start says of an attempt beside its prompt and seed: other values in another attempt. */
const OF_ATTEMPT = ['attempt', 'previous_issues', 'original_prompt', 'best_so_far', 'repair_prompt']

/**
 * What the button beside an attempt says, and whether it can be done.
 * @param {GraphNode} end @param {OfLoop} loop @param {OfAttempt} attempt
 * @returns {Offer}
 */
export function attemptOffer(end, loop, attempt, graph = rootGraph()) {
  const wins = attempt.number === loop.winner?.number
  const { not, anew } = workOut(graph, end, loop, attempt, wins)
  const label = t(wins ? 'take.use' : 'take.pick')
  if (not) return { label, tip: not, not }
  const tip = t(wins ? 'take.use_tip' : 'take.pick_tip')
  const cost = anew ? t('take.anew', { node: anew }) : t(wins ? 'take.begins' : 'take.known')
  return { label, tip: `${tip} ${cost}`, not: '' }
}

/**
 * Write the attempt's prompt and seed to where Start's come from. One that did not win becomes the only one.
 * @param {GraphNode} end @param {OfLoop} loop @param {OfAttempt} attempt
 * @returns {string} what the person is told
 */
export function takeAttempt(end, loop, attempt) {
  const wins = attempt.number === loop.winner?.number
  const { not, anew, writes } = workOut(rootGraph(), end, loop, attempt, wins)
  if (not) return note(not, 'warn')
  change(() => {
    for (const each of writes) {
      setWidget(each.node, each.widget, each.value)
      fixSeed(each.node, each.widget)
    }
    end.properties.runflow_picked = wins ? '' : attempt.image // the server notes it in what is saved
  })
  const cost = anew ? t('take.anew', { node: anew }) : t(wins ? 'take.begins' : 'take.known')
  return note(`${t(wins ? 'take.used' : 'take.picked')} ${cost}`, anew ? 'warn' : 'success')
}

/**
 * @param {Graph} graph @param {GraphNode} end @param {OfLoop} loop @param {OfAttempt} attempt @param {boolean} wins
 * @returns {{not: string, anew: string, writes: Write[]}} why it cannot be done; what makes the next Run judge anew
 */
function workOut(graph, end, loop, attempt, wins) {
  const nothing = { anew: '', writes: [] }
  const start = placeOf(graph, loop.start)
  if (!start || kind(start.node) !== 'RunflowRegenerateStart') {
    return { ...nothing, not: t('take.no_start') }
  }
  const wanted = [
    { place: start, name: 'prompt', value: attempt.prompt },
    { place: start, name: 'seed', value: Number(attempt.seed) },
    ...(wins ? [] : [{ place: besides(start, end), name: 'max_attempts', value: 1 }])
  ]
  const found = wanted.map((each) => ({ ...writable(each.place, each.name), ...each }))
  const writes = found.filter((each) => each.widget?.value !== each.value)
  const survey = new Survey(graph)
  const not =
    writes.map(whyNot).find(Boolean) ||
    (Number(attempt.number) > 1 && dependsOn(start, survey)) ||
    ''
  const written = new Set(found.map(({ node }) => node))
  const changes = whatChanges(besides(start, end), survey).filter((node) => !written.has(node))
  const anew = changes.length ? changes[0].title || kind(changes[0]) : ''
  return { not, anew, writes: /** @type {any} */ (writes) }
}

/** The End, seen through the same hosts as its Start. @param {Place} start @param {GraphNode} end @returns {Place} */
const besides = (start, end) => ({ node: end, hosts: start.hosts })

/** @param {{node: GraphNode | null, widget: Widget | null, value: unknown}} given */
function whyNot({ node, widget: to, value }) {
  if (!to) return node ? t('take.elsewhere', { node: node.title || kind(node) }) : t('take.unknown')
  if (typeof value === 'number' && !Number.isSafeInteger(value)) {
    return t('take.too_large', { seed: String(value) })
  }
  const dynamic = /** @type {any} */ (to).dynamicPrompts ?? to.options?.dynamicPrompts
  const changes = typeof value === 'string' && dynamic === true && DYNAMIC.test(value)
  return changes ? t('take.dynamic') : ''
}

/** Why an attempt after the first cannot be made again: its image depends on more than prompt and seed. */
/** @param {Place} start @param {Survey} survey */
function dependsOn(start, survey) {
  const id = executionId(start)
  for (const place of survey.running.values()) {
    if (kind(place.node) === 'RunflowRegenerateEnd') continue
    const slots = survey
      .sources(place)
      .filter(({ place: from }) => from && executionId(from) === id)
    const names = slots.map(({ slot }) => start.node.outputs[slot]?.name)
    const found = names.find((name) => OF_ATTEMPT.includes(name))
    if (found) return t('take.depends', { output: found })
  }
  return ''
}

/**
 * Write an improved prompt to where the prompt comes from that made the image.
 * @param {GraphNode} node Evaluate, or what shows its evaluation
 * @param {string} text
 * @returns {string} what the person is told
 */
export function usePrompt(node, text) {
  const { writes, not } = promptWrites(node, text, rootGraph())
  if (not) return note(not, 'warn')
  change(() => {
    for (const each of writes) setWidget(each.node, each.widget, each.value)
  })
  const { node: written } = writes[writes.length - 1]
  return note(t('take.written', { node: written.title || kind(written) }))
}

/**
 * @param {GraphNode} node @param {string} text @param {Graph} graph
 * @returns {{writes: Write[], not: string}}
 */
export function promptWrites(node, text, graph) {
  const survey = new Survey(graph)
  const [place] = survey.places.get(node) ?? []
  const evaluate = place && evaluateOf(place)
  if (!evaluate) return { writes: [], not: t('take.no_prompt') }
  const made = promptSpot(evaluate)
  const judged = isLinked(evaluate.node, 'generation_prompt')
  const found = [
    ...(made ? [writable(made.place, made.name, true)] : []),
    ...(judged ? [writable(evaluate, 'generation_prompt', true)] : [])
  ]
  if (!found.length) return { writes: [], not: t('take.no_prompt') }
  const own = widget(evaluate.node, 'generation_prompt')
  const copied = !judged && own?.value ? [{ node: evaluate.node, widget: own }] : []
  const all = [...copied, ...found].map((each) => ({ ...each, value: text }))
  const not = all.map(whyNot).find(Boolean) ?? ''
  return { writes: /** @type {any} */ (all.filter(isFirst)), not }
}

/** @param {{widget: Widget | null}} each @param {number} index @param {{widget: Widget | null}[]} all */
const isFirst = (each, index, all) =>
  all.findIndex((other) => other.widget === each.widget) === index

/** @param {Place} place @returns {Place | null} */
function evaluateOf(place) {
  if (kind(place.node) === 'RunflowEvaluateImage') return place
  const from = sourceOf(place, 'evaluation').place
  return from && kind(from.node) === 'RunflowEvaluateImage' ? from : null
}

/** The prompt that made the image which an Evaluate judges. @param {Place} evaluate */
function promptSpot(evaluate) {
  const image = sourceOf(evaluate, 'image')
  if (!image.place) return null
  return madeBy(image.place, image.slot).map(promptOf).find(Boolean) ?? null
}
