/**
 * What a node's result is made from, as the editor has it now: a hash over all nodes upstream of it, with their
 * widgets. Two of them differ where a person changed something that a verdict depends on. A seed that changes by
 * itself after every run is left out: what was judged is what is to be seen on the nodes.
 */
import { source } from '../comfy/links.mjs'

/** @typedef {import('../types').GraphNode} GraphNode */

const MUTED = 2
const BYPASSED = 4
const CHANGES = new Set(['randomize', 'increment', 'decrement', 'increment-wrap'])

/**
 * @param {GraphNode} node
 * @param {Map<GraphNode, string>} [known] the hashes of this pass: many nodes share what is upstream
 */
export function madeFrom(node, known = new Map()) {
  const found = known.get(node)
  if (found !== undefined) return found
  known.set(node, '') // a cycle, which ComfyUI refuses
  const inputs = (node.inputs ?? []).map(({ name }) => {
    const from = source(node, name)
    return from ? [name, madeFrom(from.node, known), from.slot] : [name]
  })
  const off = node.mode === MUTED || node.mode === BYPASSED
  const hash = hashOf([node.comfyClass ?? node.type, off, widgetsOf(node), inputs])
  known.set(node, hash)
  return hash
}

/** @param {GraphNode} node */
function widgetsOf(node) {
  return (node.widgets ?? [])
    .filter((each) => !each.element?.classList.contains('rf-panel') && !isControl(each) && !isChanging(each))
    .map(({ name, value }) => [name, typeof value === 'object' ? plain(value) : value])
}

/** @param {import('../types').Widget} widget */
const isControl = ({ name, options }) => /control_(after|before)_generate/.test(name) || options?.canvasOnly === true
/** @param {import('../types').Widget} widget */
const isChanging = ({ linkedWidgets }) => linkedWidgets?.some((each) => CHANGES.has(each.value)) === true

/** @param {unknown} value */
function plain(value) {
  try {
    return JSON.stringify(value)
  } catch {
    return ''
  }
}

/** 53 bits over the JSON of a value: enough to tell apart what one node was made from. @param {unknown} value */
export function hashOf(value) {
  const text = JSON.stringify(value) ?? ''
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
