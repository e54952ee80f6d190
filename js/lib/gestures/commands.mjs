/** Right-click items and commands for the gestures, and the offer when a prompt is wired back. */
import { app, ask, chain, change, note, rootGraph } from '../comfy/app.mjs'
import { everyNode, inputIndex, kind, outputIndex, upstream, widget } from '../comfy/links.mjs'
import { t } from '../text.mjs'
import { addShowVerdict, checkQuality, clear, imageOf, loopParts, regenerate } from './insert.mjs'
import { repair, repairParts } from './repair.mjs'
import { sayPrice } from './price.mjs'
import { fixSeed } from './values.mjs'

/** @typedef {import('../types').GraphNode} GraphNode */

/**
 * @typedef {object} Gesture
 * @property {string} id of the command
 * @property {string} name of its text
 * @property {string} icon
 * @property {string} none the text where it has nothing to work on
 * @property {(node: GraphNode) => any} find what of a node it would work on, or null
 * @property {(found: any, create: import('./insert.mjs').Create) => {said: string}} make
 */

/** @type {Gesture} */
const CHECK = {
  id: 'RunflowEvaluate.CheckQuality',
  name: 'gestures.check',
  icon: 'pi pi-check-circle',
  none: 'gestures.no_image',
  find: imageOf,
  make: checkQuality
}
/** @type {Gesture} */
const REGENERATE = {
  id: 'RunflowEvaluate.Regenerate',
  name: 'gestures.regenerate',
  icon: 'pi pi-refresh',
  none: 'gestures.no_loop',
  find: loopParts,
  make: regenerate
}
/** @type {Gesture} */
const REPAIR = {
  id: 'RunflowEvaluate.Repair',
  name: 'gestures.repair',
  icon: 'pi pi-wrench',
  none: 'gestures.no_repair',
  find: repairParts,
  make: repair
}
const ALL = [CHECK, REGENERATE, REPAIR]

/** What ComfyUI's command palette and toolbox get. */
export const commands = () => [
  ...ALL.map((each) => ({
    id: each.id,
    icon: each.icon,
    label: () => t(each.name),
    function: () => run(each, Object.values(app.canvas.selected_nodes ?? {})[0])
  })),
  {
    id: 'RunflowEvaluate.Price',
    icon: 'pi pi-wallet',
    label: () => t('price.ask'),
    function: sayPrice
  }
]

/** The right-click items of a node. @param {GraphNode} node */
export function menuItems(node) {
  const items = ALL.filter(({ find }) => find(node)).map((each) => ({
    content: t(each.name),
    callback: () => run(each, node)
  }))
  return items.length ? [null, ...items] : []
}

/** The same beside a selected node, also where the right-click menu takes no items of packs. */
/** @param {GraphNode} item @returns {string[]} the commands' ids */
export const toolbox = (item) => ALL.filter(({ find }) => find(item)).map(({ id }) => id)

/**
 * A seed that changes by itself makes every Run cost anew: a new Start keeps its own. An improved prompt cannot be
 * wired back into what made its image, because a graph has no cycles: a loop is offered instead.
 * @param {GraphNode} node
 */
export function nodeCreated(node) {
  if (kind(node) === 'RunflowRegenerateStart') fixSeed(node, widget(node, 'seed'))
  if (kind(node) !== 'RunflowEvaluateImage') return
  chain(node, 'onConnectOutput', (slot, _type, _input, target) => {
    const isImproved = slot === outputIndex(node, 'improved_prompt')
    if (!isImproved || !upstream(node).includes(target)) return undefined
    const name = inputName(target, _input)
    queueMicrotask(() => offer(node, target, name))
    return false // nothing is connected: what fed the input goes on feeding it
  })
}

/** @param {GraphNode} target @param {any} input */
const inputName = (target, input) => input?.name ?? target.inputs[0]?.name ?? ''

/** @param {GraphNode} evaluate @param {GraphNode} target @param {string} name */
async function offer(evaluate, target, name) {
  const yes = await ask(t(REGENERATE.name), t('gestures.offer'))
  const open = everyNode(rootGraph()) // another workflow may have been opened meanwhile
  if (!yes || !open.has(evaluate) || !open.has(target)) return
  const image = upstream(evaluate).find((each) => loopParts(each)?.image === each)
  const wanted = { place: { node: target, hosts: [] }, name }
  const prompt =
    inputIndex(target, name) < 0
      ? null
      : { spot: wanted, expose: null, value: widget(target, name)?.value }
  /** @param {any} parts @param {import('./insert.mjs').Create} create */
  const make = (parts, create) => regenerate({ ...parts, ...(prompt && { prompt }) }, create)
  run({ ...REGENERATE, make }, image ?? target)
}

/** The remedy for an Evaluate that nothing reads. @param {GraphNode} evaluate */
export function showVerdict(evaluate) {
  const made = inGraphOf(evaluate)
  change(() => addShowVerdict(evaluate, made.create))
}

/** @param {Gesture} gesture @param {GraphNode | undefined} node */
function run({ find, none, make }, node) {
  const found = node && find(node)
  if (!found) return note(t(node ? none : 'gestures.select'), 'warn')
  const { create, made } = inGraphOf(node)
  const { said } = change(() => make(found, create))
  app.canvas.selectNodes?.(made)
  if (said) note(t(said), 'warn')
}

/** @param {GraphNode} node */
function inGraphOf({ graph }) {
  /** @type {GraphNode[]} */
  const made = []
  /** @param {string} type @param {[number, number]} pos @returns {GraphNode} */
  const create = (type, pos) => {
    const created = /** @type {any} */ (globalThis).LiteGraph.createNode(type)
    if (!created || !graph) return created
    created.pos = pos
    clear(created, graph)
    graph.add(created)
    made.push(created)
    return created
  }
  return { create, made }
}
