/**
 * What a node's result is made from, as the editor has it now: a hash over all nodes upstream of it, with their
 * widgets. Two of them differ where a person changed something that a verdict depends on. A seed that changes by
 * itself after every run is left out: what was judged is what is to be seen on the nodes.
 */
import { executionId } from '../comfy/links.mjs'

/** @typedef {import('../types').GraphNode} GraphNode */
/** @typedef {import('../types').Widget} Widget */
/** @typedef {import('../comfy/links.mjs').Place} Place */
/** @typedef {import('../comfy/links.mjs').Survey} Survey */

const CHANGES = new Set(['randomize', 'increment', 'decrement', 'increment-wrap'])
const CONTROL = /control[ _](after|before)[ _]generate/
const SEEDS = ['seed', 'noise_seed', 'value']

/**
 * @param {Place} place
 * @param {Survey} survey
 * @param {Map<string, string>} known the hashes of this pass, by execution id: nodes share what is upstream
 * @returns {string}
 */
export function madeFrom(place, survey, known) {
  const id = executionId(place)
  const found = known.get(id)
  if (found !== undefined) return found
  known.set(id, '') // a cycle, which ComfyUI refuses
  const inputs = survey.sources(place).map(({ place: from, slot, widget, why }) => {
    if (widget) return [widget.value]
    return from ? [madeFrom(from, survey, known), slot] : [why]
  })
  const { node } = place
  const hash = hashOf([node.comfyClass ?? node.type, widgetsOf(node), inputs])
  known.set(id, hash)
  return hash
}

/** @param {GraphNode} node */
function widgetsOf(node) {
  const all = node.widgets ?? []
  const changing = changingWidget(all)
  return all
    .filter((each) => isInput(each) && each !== changing && !CONTROL.test(each.name))
    .map(({ name, value }) => [name, value])
}

/** Previews and panels come and go: no prompt holds them. @param {Widget} each */
const isInput = ({ name, serialize, options }) =>
  serialize !== false && options?.serialize !== false && !name.startsWith('$$')

/** The one that "control after generate" changes by itself. @param {Widget[]} all */
function changingWidget(all) {
  const control = all.find((each) => CONTROL.test(each.name) && CHANGES.has(each.value))
  if (!control) return null
  const owner = all.find((each) => each.linkedWidgets?.includes(control))
  return owner ?? all.find((each) => SEEDS.includes(each.name)) ?? all[0]
}

/** 53 bits over the JSON of a value: enough to tell apart what one node was made from. @param {unknown} value */
export function hashOf(value) {
  const text = jsonOf(value)
  let [high, low] = [0xdeadbeef, 0x41c6ce57]
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    high = Math.imul(high ^ code, 2654435761)
    low = Math.imul(low ^ code, 1597334677)
  }
  high = Math.imul(high ^ (high >>> 16), 2246822507) ^ Math.imul(low ^ (low >>> 13), 3266489909)
  low = Math.imul(low ^ (low >>> 16), 2246822507) ^ Math.imul(high ^ (high >>> 13), 3266489909)
  return (4294967296 * (2097151 & low) + (high >>> 0)).toString(36)
}

/** @param {unknown} value */
function jsonOf(value) {
  try {
    return JSON.stringify(value) ?? ''
  } catch {
    return '' // a widget of another pack that holds itself
  }
}
