/** The gestures: put the pack's nodes into a graph and wire them. Each is one change, so one undo takes it back. */
import { downstream, input, inputIndex, kind, linkOf, outputIndex, source, targets, upstream, widget } from './graph.mjs'
import { encoderOf, samplerText, setWidget } from './prompts.mjs'

const GAP = 60
/** As wide as Evaluate and End beside each other. */
const ROOM = 820
const SEEDS = ['seed', 'noise_seed']

/** The first image output of a node, -1 where there is none. */
export const imageOutput = (node) => (node.outputs ?? []).findIndex(({ type }) => type === 'IMAGE')

/**
 * What "Regenerate until it passes" would work on, from a sampler or an image output: the sampler's seed, the text,
 * the node that gives the image. Null where one of the first two or the image is missing.
 */
export function loopParts(node) {
  const image = [node, ...downstream(node)].find((each) => each && imageOutput(each) >= 0)
  const sampler = image && [node, ...(image === node ? upstream(node) : [])].find((each) => seedOf(each))
  if (!sampler || insideLoop(sampler)) return null
  return { image, sampler, seed: seedOf(sampler), text: samplerText(sampler) }
}

/** Insert Evaluate and Show Verdict behind an image output. Returns Evaluate. */
export function checkQuality(node, create) {
  const slot = imageOutput(node)
  const evaluate = create('RunflowEvaluateImage', beside(node))
  node.connect(slot, evaluate, inputIndex(evaluate, 'image'))
  givePrompt(evaluate, encoderOf(evaluate))
  const show = create('RunflowShowVerdict', beside(evaluate))
  evaluate.connect(outputIndex(evaluate, 'evaluation'), show, inputIndex(show, 'evaluation'))
  return evaluate
}

/** Put Start before the sampler, Evaluate and End behind the image; what read the image reads the best one. */
export function regenerate({ image, sampler, seed, text }, create) {
  const readers = targets(image, imageOutput(image))
  makeRoom(image, ROOM)
  const start = create('RunflowRegenerateStart', before(text?.node ?? sampler))
  const evaluate = evaluateOf(readers) ?? create('RunflowEvaluateImage', beside(image))
  const end = create('RunflowRegenerateEnd', beside(evaluate))
  moveSeed(start, seed)
  if (text) movePrompt(start, text)
  const wire = (from, output, to, name) => from.connect(outputIndex(from, output), to, inputIndex(to, name))
  image.connect(imageOutput(image), evaluate, inputIndex(evaluate, 'image'))
  wire(start, 'current_prompt', evaluate, 'generation_prompt')
  wire(start, 'loop', end, 'loop')
  wire(evaluate, 'evaluation', end, 'evaluation')
  image.connect(imageOutput(image), end, inputIndex(end, 'image'))
  const best = outputIndex(end, 'best_image')
  const others = readers.filter((each) => each.node !== evaluate)
  for (const { node, slot } of others) end.connect(best, node, slot)
  if (!others.length) end.connect(best, create('PreviewImage', beside(end)), 0)
  return end
}

/** Evaluate is there already where somebody checked first: it is used, with its settings. */
function evaluateOf(readers) {
  return readers.map(({ node }) => node).find((each) => kind(each) === 'RunflowEvaluateImage')
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

function insideLoop(sampler) {
  const seed = seedOf(sampler)
  const from = seed && source(seed.node, seed.widget.name)?.node
  return Boolean(from) && kind(from).startsWith('RunflowRegenerate')
}

function givePrompt(evaluate, text) {
  const own = widget(evaluate, 'generation_prompt')
  if (own && text) setWidget(evaluate, own, text.widget.value)
}

function movePrompt(start, { node, widget: from }) {
  setWidget(start, widget(start, 'prompt'), from.value)
  start.connect(outputIndex(start, 'current_prompt'), node, inputIndex(node, from.name))
}

function moveSeed(start, { node, widget: from }) {
  const linked = linkOf(node.graph, input(node, from.name)?.link)
  const origin = linked && node.graph.getNodeById(linked.origin_id)
  setWidget(start, widget(start, 'seed'), from.value)
  fixSeed(start)
  if (origin) origin.connect(linked.origin_slot, start, inputIndex(start, 'seed'))
  start.connect(outputIndex(start, 'current_seed'), node, inputIndex(node, from.name))
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
  for (const each of node.graph.nodes) {
    if (each.pos[0] >= edge) each.pos = [each.pos[0] + by, each.pos[1]]
  }
}

/** Move nodes that would lie on others down, until they do not. */
export function clear(node, others) {
  const overlaps = (each) => each !== node && each.pos[0] < node.pos[0] + node.size[0] && node.pos[0] < each.pos[0] + each.size[0] &&
    each.pos[1] - 30 < node.pos[1] + node.size[1] && node.pos[1] - 30 < each.pos[1] + each.size[1]
  for (let hit = others.find(overlaps), tries = 0; hit && tries < 50; hit = others.find(overlaps), tries++) {
    node.pos = [node.pos[0], hit.pos[1] + hit.size[1] + GAP]
  }
}
