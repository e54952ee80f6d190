/** The gestures: put the pack's nodes into a graph and wire them. Each is one change, so one undo takes it back. */
import { downstream, input, isOutput, kind, linkOf, outputIndex, source, targets, upstream, widget } from './graph.mjs'
import { encoderOf, samplerText, setWidget } from './prompts.mjs'

const GAP = 60
/** As wide as Evaluate and End beside each other. */
const ROOM = 820
const SEEDS = ['seed', 'noise_seed']

/** The first image output of a node, -1 where there is none. */
const imageOutput = (node) => (node.outputs ?? []).findIndex(({ type }) => type === 'IMAGE')

/** The node whose image a gesture is about: this one, or the next after a sampler. */
export function imageOf(node) {
  if (imageOutput(node) < 0 && !seedOf(node)) return null
  const image = [node, ...downstream(node)].find((each) => each && imageOutput(each) >= 0)
  // On ComfyUI 0.33 what saves images has such an output too. A loop would save every attempt: what feeds it is meant.
  const fed = image && isOutput(image) && source(image, image.inputs.find(({ type }) => type === 'IMAGE')?.name)
  return fed ? imageOf(fed.node) : image
}

/**
 * What "Regenerate until it passes" would work on, from a sampler or an image output: the sampler's seed, the text,
 * the node that gives the image. Null where the seed or the image is missing, and in a loop.
 */
export function loopParts(node) {
  const image = imageOf(node)
  const sampler = image && [node, ...(imageOutput(node) < 0 ? [] : upstream(image))].find(seedOf)
  const seed = sampler && seedOf(sampler)
  if (!seed || kind(source(seed.node, seed.widget.name)?.node)?.startsWith('RunflowRegenerate')) return null
  return { image, sampler, seed, text: samplerText(sampler) }
}

/** Insert Evaluate and Show Verdict behind an image output. Returns Evaluate. */
export function checkQuality(node, create) {
  const evaluate = create('RunflowEvaluateImage', beside(node))
  node.connect(imageOutput(node), evaluate, 'image')
  const text = encoderOf(evaluate)
  if (text) setWidget(evaluate, widget(evaluate, 'generation_prompt'), text.widget.value)
  const show = create('RunflowShowVerdict', beside(evaluate))
  evaluate.connect('evaluation', show, 'evaluation')
  return evaluate
}

/** Put Start before the sampler, Evaluate and End behind the image; what read the image reads the best one. */
export function regenerate({ image, sampler, seed, text }, create) {
  const made = imageOutput(image)
  const readers = targets(image, made)
  makeRoom(image, ROOM)
  const start = create('RunflowRegenerateStart', before(text?.node ?? sampler))
  // Evaluate is there already where somebody checked first: it is used, with its settings.
  const evaluate = readers.map(({ node }) => node).find((each) => kind(each) === 'RunflowEvaluateImage') ?? create('RunflowEvaluateImage', beside(image))
  const end = create('RunflowRegenerateEnd', beside(evaluate))
  putBetween(start, 'seed', 'current_seed', seed)
  fixSeed(start)
  if (text) putBetween(start, 'prompt', 'current_prompt', text)
  image.connect(made, evaluate, 'image')
  start.connect('current_prompt', evaluate, 'generation_prompt')
  start.connect('loop', end, 'loop')
  evaluate.connect('evaluation', end, 'evaluation')
  image.connect(made, end, 'image')
  const best = outputIndex(end, 'best_image')
  const others = readers.filter((each) => each.node !== evaluate)
  for (const { node, slot } of others) {
    if (node) end.connect(best, node, slot)
    else end.graph.outputs[slot].connect(end.outputs[best], end)
  }
  if (!others.length) end.connect(best, create('PreviewImage', beside(end)), 0)
  return end
}

/** The seed widget of a sampler, its own or that of the noise node it reads. */
function seedOf(node) {
  const own = SEEDS.map((name) => widget(node, name)).find(Boolean)
  const samples = (node.outputs ?? []).some(({ type }) => ['LATENT', 'NOISE', 'IMAGE'].includes(type))
  if (own && samples && !kind(node).startsWith('Runflow')) return { node, widget: own }
  const noise = input(node, 'noise') && source(node, 'noise')?.node
  const found = noise && widget(noise, 'noise_seed')
  return found ? { node: noise, widget: found } : null
}

/** What a widget says, or what is linked to it (a node, or an input of the subgraph), goes to Start, and Start to it. */
function putBetween(start, name, current, { node, widget: from }) {
  const { graph } = start
  const own = input(node, from.name)
  const link = linkOf(graph, own?.link)
  const origin = link && graph.getNodeById(link.origin_id)
  setWidget(start, widget(start, name), from.value)
  if (origin) origin.connect(link.origin_slot, start, name)
  else if (link) graph.inputs[link.origin_slot].connect(input(start, name), start)
  // A Primitive's widget has no input: what it feeds reads Start instead.
  for (const to of own ? [{ node, slot: from.name }] : targets(node, 0)) start.connect(current, to.node, to.slot)
}

/** "Control after generate", whatever it is called: a seed that changes by itself makes every Run cost anew. */
export function fixSeed(start) {
  const control = widget(start, 'seed')?.linkedWidgets?.[0] ?? widget(start, 'control_after_generate')
  if (control) control.value = 'fixed'
}

const beside = (node) => [node.pos[0] + node.size[0] + GAP, node.pos[1]]
const before = (node) => [node.pos[0] - 400 - GAP, node.pos[1]]

/**
 * Shift what lies to the right of a node, so that the new nodes stand in the order in which they run. Not where Vue
 * nodes do not follow (frontend 1.32): there the new ones go below.
 */
function makeRoom(node, by) {
  if (globalThis.LiteGraph?.vueNodesMode && !node.setPos) return
  const edge = node.pos[0] + node.size[0]
  for (const each of standing(node.graph)) {
    if (each.pos[0] >= edge) each.pos = [each.pos[0] + by, each.pos[1]]
  }
  node.graph.outputNode?.arrange() // else the next drawing of it counts as a change
}

/** The nodes, and a subgraph's own input and output. */
const standing = ({ nodes, inputNode, outputNode }) => [...nodes, inputNode, outputNode].filter(Boolean)

/** Move a new node down until it lies on no other. */
export function clear(node, graph) {
  const others = standing(graph)
  const overlaps = (each) => each.pos[0] < node.pos[0] + node.size[0] && node.pos[0] < each.pos[0] + each.size[0] &&
    each.pos[1] - 30 < node.pos[1] + node.size[1] && node.pos[1] - 30 < each.pos[1] + each.size[1]
  for (let hit, tries = 0; (hit = others.find(overlaps)) && tries < 50; tries++) {
    node.pos = [node.pos[0], hit.pos[1] + hit.size[1] + GAP]
  }
}
