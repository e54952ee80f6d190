/** Where a prompt or a seed comes from: the widget that decides it, or the input that it can be led through. */
import {
  comesFromOutside,
  inputIndex,
  isLinked,
  kind,
  linkInto,
  originOf,
  sourceOf,
  widget
} from '../comfy/links.mjs'

/** @typedef {import('../types').GraphNode} GraphNode */
/** @typedef {import('../types').Widget} Widget */
/** @typedef {import('../comfy/links.mjs').Place} Place */

/** A widget and the input of that name, looked at from the graph that a gesture works in. */
/** @typedef {{place: Place, name: string}} Spot */

const DEEP = 20
const SEEDS = ['seed', 'noise_seed']
/** Names of texts, the likeliest first. */
const TEXTS = [
  ...['prompt', 'text', 'positive', 'positive_prompt', 't5xxl', 'text_g', 'value', 'string'],
  ...['populated_text', 'generation_prompt', 'caption', 'tags', 'clip_l', 'text_l']
]
/** What the editor calls every widget of a node that is not installed. */
const OF_MISSING = /^UNKNOWN(_\d+)?$/
const TEXT_WIDGETS = new Set(['customtext', 'string', 'text', 'textarea', 'STRING'])
/** Nodes whose output is exactly what their widget says: the widget's name, or its number. */
const PLAIN = new Map(
  /** @type {[string, string | number][]} */ ([
    ['PrimitiveNode', 0],
    ['PrimitiveString', 'value'],
    ['PrimitiveStringMultiline', 'value'],
    ['PrimitiveInt', 'value'],
    ['Seed (rgthree)', 'seed'],
    ['easy seed', 'seed']
  ])
)
/** What Start hands on unchanged in its first attempt. */
const OF_START = new Map([
  ['current_prompt', 'prompt'],
  ['original_prompt', 'prompt'],
  ['current_seed', 'seed']
])

/**
 * The text widget of a node that makes something of a prompt; "" where none does, or another is written over it.
 * @param {GraphNode} node @param {'positive' | 'negative'} [wanted] which one, where it has both
 */
export function textName(node, wanted = 'positive') {
  const texts = (node.widgets ?? []).filter(
    ({ name, value, type }) =>
      typeof value === 'string' && TEXT_WIDGETS.has(type) && !OF_MISSING.test(name)
  )
  if (texts.some(({ name }) => name === 'wildcard_text')) return populatedName(node)
  const own = texts.find(({ name }) => name === wanted)
  const known = TEXTS.map((name) => texts.find((each) => each.name === name)).find(Boolean)
  return (own ?? known ?? texts[0])?.name ?? ''
}

/** A processor of wildcards writes `populated_text` itself, unless it is told to keep it. @param {GraphNode} node */
function populatedName(node) {
  const mode = widget(node, 'mode')?.value
  const keeps = mode === 'fixed' || mode === false
  return keeps && widget(node, 'populated_text') ? 'populated_text' : ''
}

/** Other texts of the node that say the same (an encoder with a text for each model). @param {Spot} spot */
export function alike({ place: { node }, name }) {
  const value = widget(node, name)?.value
  const texts = (node.widgets ?? []).filter((each) => TEXT_WIDGETS.has(each.type) && value)
  return texts.filter((each) => each.name !== name && each.value === value).map((each) => each.name)
}

/**
 * The text that a sampler's image is made from.
 * @param {Place} sampler @returns {Spot | null}
 */
export function promptOf(sampler) {
  const { node } = sampler
  if (inputIndex(node, 'positive') >= 0) return ofConditioning(sampler, 'positive', DEEP)
  const guider = inputIndex(node, 'guider') >= 0 && sourceOf(sampler, 'guider').place
  if (guider) {
    const name = inputIndex(guider.node, 'positive') >= 0 ? 'positive' : 'conditioning'
    return ofConditioning(guider, name, DEEP)
  }
  const makes = (node.outputs ?? []).some(({ type }) => type === 'IMAGE' || type === 'LATENT')
  return makes && widget(node, 'prompt') ? { place: sampler, name: 'prompt' } : null
}

/** @param {Place} place @param {string} input @param {number} deep @returns {Spot | null} */
function ofConditioning(place, input, deep) {
  const { place: from, slot } = sourceOf(place, input)
  if (!from || !deep) return null
  const name = from.node.outputs[slot]?.name ?? ''
  const wanted = /neg|-$/i.test(name) ? 'negative' : 'positive'
  const names = [wanted, 'conditioning', 'conditioning_1', 'conditioning1', 'conditioning_to']
  const next = names.find((each) => isConditioning(from.node, each))
  if (next) return ofConditioning(from, next, deep - 1)
  const text = textName(from.node, wanted)
  return text ? { place: from, name: text } : null
}

/** @param {GraphNode} node @param {string} name */
const isConditioning = (node, name) => isLinked(node, name) && !widget(node, name)

/** The seed of a sampler: its own, or that of the noise it reads. @param {Place} place @returns {Spot | null} */
export function seedOf(place) {
  const { node } = place
  if (kind(node).startsWith('Runflow') || node.subgraph) return null
  const makes = (node.outputs ?? []).some(({ type }) => ['LATENT', 'NOISE', 'IMAGE'].includes(type))
  const own = SEEDS.find((name) => widget(node, name))
  if (own && makes) return { place, name: own }
  const noise = inputIndex(node, 'noise') >= 0 && sourceOf(place, 'noise').place
  return noise && widget(noise.node, 'noise_seed') ? { place: noise, name: 'noise_seed' } : null
}

/**
 * The places that an output depends on, nearest first, in and out of subgraphs, as far as the gesture's graph.
 * @param {Place} place @param {number} slot
 */
export function madeBy(place, slot) {
  const first = originOf(place, slot).place
  const found = first ? [first] : []
  const seen = new Set(found.map(nameOf))
  for (const each of found) {
    for (const [index] of (each.node.inputs ?? []).entries()) {
      const from = sourceOf(each, index).place
      if (!from || seen.has(nameOf(from))) continue
      seen.add(nameOf(from))
      found.push(from)
    }
  }
  return found
}

/** @param {Place} place */
const nameOf = ({ node, hosts }) => [...hosts, node].map(({ id }) => id).join(':')

/**
 * Go from a widget up to where it can be reached from the gesture's graph: an input of a node in that graph, through
 * the hosts of subgraphs. `expose`: what has to be made an input of its subgraph first. `value`: what it says now;
 * some files leave the host's own empty, and mean what is said inside.
 * @param {Spot} spot
 * @returns {{spot: Spot, expose: Spot | null, value: unknown} | null} null where nothing in the graph leads there
 */
export function reach(spot, /** @type {unknown} */ said = undefined, deep = DEEP) {
  const { place, name } = spot
  const own = widget(place.node, name)
  const value = own?.value ?? said
  const host = place.hosts.at(-1)
  if (!host) return { spot, expose: null, value }
  const link = linkInto(place.node, inputIndex(place.node, name))
  if (!link) return own ? { spot, expose: spot, value } : null
  const outside = { node: host, hosts: place.hosts.slice(0, -1) }
  if (comesFromOutside(link)) {
    return reach({ place: outside, name: host.inputs[link.origin_slot].name }, value, deep - 1)
  }
  const { place: from } = sourceOf(place, name)
  const next = from && deep > 0 && (plainWidget(from.node)?.name ?? passedOn(from))
  return next ? reach({ place: from, name: next }, undefined, deep - 1) : null
}

/** The input that a node's output repeats, as it is set now; "" where it makes something of it. @param {Place} place */
function passedOn(place) {
  if (kind(place.node) === 'PreviewAny') return 'source'
  if (kind(place.node) !== 'ComfySwitchNode') return ''
  const on = flag(place, 'switch')
  if (on === null) return ''
  return on ? 'on_true' : 'on_false'
}

/** What a switch says; null where only the run knows. @param {Place} place @param {string} name @returns {boolean | null} */
function flag(place, name) {
  const own = widget(place.node, name)?.value
  if (!isLinked(place.node, name)) return typeof own === 'boolean' ? own : null
  const { place: from, widget: promoted } = sourceOf(place, name)
  if (promoted) return typeof promoted.value === 'boolean' ? promoted.value : null
  return from && kind(from.node) === 'PrimitiveBoolean' ? flag(from, 'value') : null
}

/** The widget that a node's output repeats; null where it makes something of it. @param {GraphNode} node */
export function plainWidget(node) {
  const which = PLAIN.get(kind(node))
  if (which === undefined) return null
  return (typeof which === 'number' ? node.widgets?.[which] : widget(node, which)) ?? null
}

/**
 * The widget to write to so that an input gets a value; null where only its source can say so.
 * @param {Place} place @param {string} name
 * @param {boolean} [loose] whether a node with one text of its own is believed to hand that on
 * @returns {{node: GraphNode, widget: Widget} | {node: GraphNode | null, widget: null}} without a widget: the node
 *   that decides
 */
export function writable(place, name, loose = false, deep = DEEP) {
  const own = widget(place.node, name)
  if (!isLinked(place.node, name)) return own ? { node: place.node, widget: own } : nobody(null)
  const { place: from, slot, widget: promoted, why } = sourceOf(place, name)
  if (from && promoted) return { node: from.node, widget: promoted }
  if (!from) return own && why === 'muted' ? { node: place.node, widget: own } : nobody(null)
  const plain = deep > 0 ? handedOn(from.node, slot, loose) : ''
  const found = plain && widget(from.node, plain)
  if (!found) return nobody(from.node)
  if (inputIndex(from.node, plain) < 0) return { node: from.node, widget: found }
  return writable(from, plain, loose, deep - 1)
}

/** The name of the widget that an output repeats; "" where the node makes something of it. */
/** @param {GraphNode} node @param {number} slot @param {boolean} loose */
function handedOn(node, slot, loose) {
  if (kind(node) === 'RunflowRegenerateStart') {
    return OF_START.get(node.outputs[slot]?.name ?? '') ?? ''
  }
  const plain = plainWidget(node)
  if (plain) return plain.name
  if (widget(node, 'wildcard_text')) return loose ? populatedName(node) : ''
  const own = (node.widgets ?? []).filter(({ type }) => type !== 'button')
  return loose && own.length === 1 && node.outputs.length === 1 ? textName(node) : ''
}

/** @param {GraphNode | null} node @returns {{node: GraphNode | null, widget: null}} */
const nobody = (node) => ({ node, widget: null })

/** Give a widget a value as if it had been typed. @param {GraphNode} node @param {Widget} each @param {unknown} value */
export function setWidget(node, each, value) {
  const before = each.value
  each.value = value
  each.callback?.(value)
  node.onWidgetChanged?.(each.name, value, before, each)
  node.setDirtyCanvas?.(true, true)
}

/** "Control after generate", whatever it is called: a seed that changes by itself makes every Run cost anew. */
/** @param {GraphNode} node @param {Widget | undefined} seed */
export function fixSeed(node, seed) {
  const control = seed?.linkedWidgets?.[0] ?? widget(node, 'control_after_generate')
  if (control && control.value !== 'fixed') control.value = 'fixed'
}
