/**
 * The gestures' work: put the pack's nodes into a graph and wire them. Each is one change, so one undo takes it back.
 * Nothing is copied that could be wired; what cannot be wired is said.
 */
import {
  comesFromOutside,
  downstream,
  everyNode,
  inputIndex,
  isOutput,
  kind,
  linkInto,
  outputIndex,
  sourceOf,
  targets,
  widget
} from '../comfy/links.mjs'
import { alike, fixSeed, madeBy, promptOf, reach, seedOf, setWidget } from './values.mjs'

/** @typedef {import('../types').GraphNode} GraphNode */
/** @typedef {import('../types').Graph} Graph */
/** @typedef {import('../comfy/links.mjs').Place} Place */
/** @typedef {import('./values.mjs').Spot} Spot */
/** @typedef {(type: string, pos: [number, number]) => GraphNode} Create makes a node and puts it into the graph */

/** @typedef {{spot: Spot, expose: Spot | null, value: unknown}} Reached */
/** @typedef {{image: GraphNode, seed: Reached, prompt: Reached | null}} LoopParts */

const GAP = 60
/** As wide as Evaluate and End beside each other. */
const ROOM = 820
const TEXT_NODE = 'PrimitiveStringMultiline'
/** `{a|b}` and comments: the editor makes something else of them, but only in the widget where they stand. */
const ALTERNATIVES = /[{}]|\/\/|\/\*/

/** The first image output of a node, -1 where there is none. @param {GraphNode} node */
const imageOutput = (node) => (node.outputs ?? []).findIndex(({ type }) => type === 'IMAGE')

/** @param {GraphNode} node @returns {Place} as the gesture sees it, from inside its graph */
const here = (node) => ({ node, hosts: [] })

/**
 * The node whose image a gesture is about: this one, or the next after a sampler.
 * @param {GraphNode} node @returns {GraphNode | null}
 */
export function imageOf(node) {
  if (!node.outputs || (imageOutput(node) < 0 && !seedOf(here(node)))) return null
  const image = [node, ...downstream(node)].find((each) => imageOutput(each) >= 0)
  if (!image) return null
  // On ComfyUI 0.33 what saves images has such an output too. A loop would save every attempt: what feeds it is meant.
  const own = image.inputs?.findIndex(({ type }) => type === 'IMAGE') ?? -1
  const fed = isOutput(image) && own >= 0 ? sourceOf(here(image), own).place : null
  return fed ? imageOf(fed.hosts[0] ?? fed.node) : image // a subgraph's host, where the image is made inside of it
}

/**
 * What "Regenerate until it passes" would work on, from a sampler or an image output: the seed, the prompt, the node
 * that gives the image. Null where the seed or the image is missing, and in a loop.
 * @param {GraphNode} node @returns {LoopParts | null}
 */
export function loopParts(node) {
  const image = imageOf(node)
  const sampler = image && samplerOf(image, node)
  const seed = sampler && seedOf(sampler)
  const reached = seed && reach(seed)
  if (!image || !reached || isInLoop(reached.spot)) return null
  const prompt = promptOf(sampler)
  return { image, seed: reached, prompt: prompt && reach(prompt) }
}

/** What made the image: the node itself where it has a seed, else the nearest before it. */
/** @param {GraphNode} image @param {GraphNode} [asked] @returns {Place | null} */
function samplerOf(image, asked) {
  if (asked && imageOutput(asked) < 0 && seedOf(here(asked))) return here(asked)
  return madeBy(here(image), imageOutput(image)).find(seedOf) ?? null
}

/** @param {Spot} spot */
const isInLoop = ({ place, name }) =>
  kind(sourceOf(place, name).place?.node).startsWith('RunflowRegenerate')

/**
 * The prompt that made an image, as far as it can be led out of there.
 * @param {GraphNode} image @returns {Reached | null}
 */
export function promptThatMade(image) {
  const spot = madeBy(here(image), imageOutput(image)).map(promptOf).find(Boolean)
  return spot ? reach(spot) : null
}

/**
 * Insert Evaluate and Show Verdict behind an image output. The prompt that made the image is wired to both.
 * @param {GraphNode} node @param {Create} create
 * @returns {{evaluate: GraphNode, said: string}} `said`: the text's key for what could not be done, or ""
 */
export function checkQuality(node, create) {
  const evaluate = create('RunflowEvaluateImage', beside(node))
  node.connect(imageOutput(node), evaluate, 'image')
  const said = wirePrompt(promptThatMade(node), evaluate, create)
  addShowVerdict(evaluate, create)
  return { evaluate, said }
}

/** Show Verdict behind an Evaluate, so that it runs. @param {GraphNode} evaluate @param {Create} create */
export function addShowVerdict(evaluate, create) {
  const show = create('RunflowShowVerdict', beside(evaluate))
  evaluate.connect(outputIndex(evaluate, 'evaluation'), show, 'evaluation')
  return show
}

/** @param {Reached | null} found @param {GraphNode} evaluate @param {Create} create */
function wirePrompt(found, evaluate, create) {
  const spot = found && opened(found, evaluate.graph)
  if (!spot) return 'gestures.no_prompt'
  const { node } = spot.place
  const { value } = found
  const index = inputIndex(node, spot.name)
  if (index < 0) return 'gestures.no_prompt'
  if (linkInto(node, index)) {
    connectAsWell(node, index, evaluate, 'generation_prompt')
    return ''
  }
  if (ALTERNATIVES.test(String(value))) return 'gestures.alternatives'
  const text = create(TEXT_NODE, before(node))
  if (!text) return 'gestures.no_prompt'
  setWidget(text, /** @type {any} */ (widget(text, 'value')), value ?? '')
  for (const name of [spot.name, ...alike(spot)]) text.connect(0, node, name)
  text.connect(0, evaluate, 'generation_prompt')
  return ''
}

/** Lead what feeds one input to another one too. */
/** @param {GraphNode} node @param {number} index @param {GraphNode} to @param {string} name */
export function connectAsWell(node, index, to, name) {
  const link = linkInto(node, index)
  const { graph } = node
  if (!link || !graph) return
  if (comesFromOutside(link)) {
    graph.inputs?.[link.origin_slot].connect(to.inputs[inputIndex(to, name)], to)
  } else {
    graph.getNodeById(link.origin_id)?.connect(link.origin_slot, to, name)
  }
}

/**
 * The input in the gesture's graph; what is deep in a subgraph is made an input of it first. Null where that would
 * change other uses of the same subgraph.
 * @param {Reached} reached @param {Graph | null} graph @returns {Spot | null}
 */
function opened({ spot, expose }, graph) {
  if (!expose) return spot
  const [outer, ...rest] = [...expose.place.hosts].reverse()
  if (rest.length || !outer.subgraph || usedElsewhere(outer, graph)) return null
  const { node } = expose.place
  const slot = node.inputs[inputIndex(node, expose.name)]
  const made = outer.subgraph.addInput?.(expose.name, slot?.type ?? '*')
  if (!slot || !made?.connect(slot, node)) return null
  return { place: here(outer), name: outer.inputs[outer.inputs.length - 1].name }
}

/** @param {GraphNode} host @param {Graph | null} graph */
const usedElsewhere = (host, graph) =>
  [...everyNode(graph?.rootGraph ?? graph)].some(
    (each) => each !== host && each.subgraph === host.subgraph
  )

/**
 * Put Start before the sampler, Evaluate and End behind the image; what read the image reads the best one.
 * @param {LoopParts} parts @param {Create} create
 * @returns {{end: GraphNode, said: string}} as `checkQuality`
 */
export function regenerate({ image, seed, prompt }, create) {
  const made = imageOutput(image)
  const readers = targets(image, made)
  makeRoom(image, ROOM)
  const text = prompt && opened(prompt, image.graph)
  const start = create('RunflowRegenerateStart', before((text ?? seed.spot).place.node))
  // Evaluate is there already where somebody checked first: it is used, with its settings.
  const evaluate =
    readers.map(({ node }) => node).find((each) => kind(each) === 'RunflowEvaluateImage') ??
    create('RunflowEvaluateImage', beside(image))
  const end = create('RunflowRegenerateEnd', beside(evaluate))
  const fed = opened(seed, image.graph)
  if (fed) putBetween(start, 'seed', 'current_seed', fed, seed.value)
  fixSeed(start, widget(start, 'seed'))
  if (text) putBetween(start, 'prompt', 'current_prompt', text, prompt?.value)
  image.connect(made, evaluate, 'image')
  const asked = askOf(start, evaluate, end, Boolean(text))
  start.connect(outputIndex(start, 'loop'), end, 'loop')
  evaluate.connect(outputIndex(evaluate, 'evaluation'), end, 'evaluation')
  image.connect(made, end, 'image')
  const others = readers.filter((each) => each.node !== evaluate)
  giveBest(end, others, create)
  return { end, said: fed ? asked : 'gestures.no_seed' }
}

/** A prompt that reaches no image is not improved: only the seed changes then, and that is said. */
/** @param {GraphNode} start @param {GraphNode} evaluate @param {GraphNode} end @param {boolean} found */
function askOf(start, evaluate, end, found) {
  if (found) {
    start.connect(outputIndex(start, 'current_prompt'), evaluate, 'generation_prompt')
    return ''
  }
  const next = widget(end, 'next_prompt')
  if (next) setWidget(end, next, 'keep')
  return 'gestures.seed_only'
}

/** @param {GraphNode} end @param {{node: GraphNode | null, slot: number}[]} readers @param {Create} create */
function giveBest(end, readers, create) {
  const best = outputIndex(end, 'best_image')
  for (const { node, slot } of readers) {
    if (node) end.connect(best, node, slot)
    else end.graph?.outputs?.[slot].connect(end.outputs[best], end)
  }
  if (!readers.length) end.connect(best, create('PreviewImage', beside(end)), 0)
}

/** What a widget says, or what is linked to it (a node, or an input of the subgraph), goes to Start, and Start to it. */
/**
 * @param {GraphNode} start @param {string} name @param {string} current @param {Spot} spot
 * @param {unknown} value what it says now
 */
function putBetween(start, name, current, spot, value) {
  const { node } = spot.place
  const index = inputIndex(node, spot.name)
  const own = widget(start, name)
  if (own && typeof value === typeof own.value) setWidget(start, own, value)
  connectAsWell(node, index, start, name)
  const names = name === 'prompt' ? [spot.name, ...alike(spot)] : [spot.name]
  for (const each of names) start.connect(outputIndex(start, current), node, each)
}

/** @param {GraphNode} node @returns {[number, number]} */
const beside = (node) => [node.pos[0] + node.size[0] + GAP, node.pos[1]]
/** @param {GraphNode} node @returns {[number, number]} */
export const before = (node) => [node.pos[0] - 400 - GAP, node.pos[1]]

/**
 * Shift what lies to the right of a node, so that the new nodes stand in the order in which they run. Not where Vue
 * nodes do not follow (frontend 1.32): there the new ones go below.
 * @param {GraphNode} node @param {number} by
 */
function makeRoom(node, by) {
  const drawsElements = /** @type {any} */ (globalThis).LiteGraph?.vueNodesMode
  if (!node.graph || (drawsElements && !node.setPos)) return
  const edge = node.pos[0] + node.size[0]
  for (const each of standing(node.graph)) {
    if (each.pos[0] >= edge) each.pos = [each.pos[0] + by, each.pos[1]]
  }
  node.graph.outputNode?.arrange() // else the next drawing of it counts as a change
}

/** The nodes, and a subgraph's own input and output. @param {Graph} graph @returns {GraphNode[]} */
const standing = ({ nodes, inputNode, outputNode }) =>
  [...nodes, inputNode, outputNode].filter((each) => each?.pos)

/** Move a new node down until it lies on no other. @param {GraphNode} node @param {Graph} graph */
export function clear(node, graph) {
  const others = standing(graph)
  for (let tries = 0; tries < 50; tries++) {
    const hit = others.find((each) => overlap(each, node))
    if (!hit) return
    node.pos = [node.pos[0], hit.pos[1] + hit.size[1] + GAP]
  }
}

/** @param {GraphNode} one @param {GraphNode} other titles stand 30 above */
function overlap(one, other) {
  const beside =
    one.pos[0] < other.pos[0] + other.size[0] && other.pos[0] < one.pos[0] + one.size[0]
  const level =
    one.pos[1] - 30 < other.pos[1] + other.size[1] && other.pos[1] - 30 < one.pos[1] + one.size[1]
  return beside && level
}
