/**
 * "Repair until it passes": the loop of "Regenerate until it passes", in which later attempts run the same sampler on
 * the best image so far, with less denoise. Other ways to repair (an edit model, inpainting) are in the templates.
 */
import { inputIndex, isLinked, outputIndex, sourceOf, widget } from '../comfy/links.mjs'
import { before, connectAsWell, loopParts, regenerate } from './insert.mjs'
import { setWidget } from './values.mjs'

/** @typedef {import('../types').GraphNode} GraphNode */
/** @typedef {import('./insert.mjs').Create} Create */
/** @typedef {import('./insert.mjs').LoopParts & {sampler: GraphNode, denoise: number}} RepairParts */

/** Keeps what is there and still changes hands and faces. */
const REPAIR_DENOISE = 0.5

/**
 * What it would work on: a sampler that begins with a latent image and has a denoise of its own, and what decodes it.
 * @param {GraphNode} node @returns {RepairParts | null}
 */
export function repairParts(node) {
  const parts = loopParts(node)
  if (!parts || !isLinked(parts.image, 'vae')) return null
  const sampler = sourceOf({ node: parts.image, hosts: [] }, 'samples').place?.node
  if (!sampler || sampler.graph !== parts.image.graph || !isLinked(sampler, 'latent_image'))
    return null
  const denoise = widget(sampler, 'denoise')?.value
  if (typeof denoise !== 'number' || isLinked(sampler, 'denoise')) return null
  return { ...parts, sampler, denoise }
}

/**
 * @param {RepairParts} parts @param {Create} create
 * @returns {{end: GraphNode, said: string}} as `regenerate`
 */
export function repair(parts, create) {
  const { image, sampler, denoise } = parts
  const made = regenerate(parts, create)
  const start = sourceOf({ node: made.end, hosts: [] }, 'loop').place?.node
  if (!start) return made
  const encode = create('VAEEncode', before(sampler))
  connectAsWell(image, inputIndex(image, 'vae'), encode, 'vae')
  start.connect(outputIndex(start, 'best_so_far'), encode, 'pixels')
  const latent = putSwitch(start, sampler, create)
  connectAsWell(sampler, inputIndex(sampler, 'latent_image'), latent, 'generate')
  encode.connect(0, latent, 'repair')
  latent.connect(0, sampler, 'latent_image')
  const strength = putSwitch(start, sampler, create)
  number(denoise, sampler, create).connect(0, strength, 'generate')
  number(REPAIR_DENOISE, sampler, create).connect(0, strength, 'repair')
  strength.connect(0, sampler, 'denoise')
  return made
}

/** @param {GraphNode} start @param {GraphNode} sampler @param {Create} create */
function putSwitch(start, sampler, create) {
  const made = create('RunflowRepairSwitch', before(sampler))
  start.connect(outputIndex(start, 'attempt'), made, 'attempt')
  return made
}

/** @param {number} value @param {GraphNode} sampler @param {Create} create */
function number(value, sampler, create) {
  const made = create('PrimitiveFloat', before(sampler))
  setWidget(made, /** @type {any} */ (widget(made, 'value')), value)
  return made
}
