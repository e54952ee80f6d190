/** What gives other values at every Run by itself: random seeds, prompts with alternatives. */
import { isLinked, isOff, kind, widget } from '../comfy/links.mjs'

/** @typedef {import('../types').GraphNode} GraphNode */
/** @typedef {import('../types').Widget} Widget */
/** @typedef {import('../comfy/links.mjs').Survey} Survey */
/** @typedef {import('../comfy/links.mjs').Place} Place */

/** Random, one more, one less: what rgthree's Seed means by these, and -1 many others. */
const SPECIAL_SEEDS = new Set([-1, -2, -3])
const CONTROLS = /^(increment|decrement|randomize)( for each node)?$/
/** Nodes that write their seed into others without a link (Inspire, Use Everywhere). */
const WRITES_ELSEWHERE = /global.?seed|seed.?everywhere/i
const SEEDS = ['seed', 'noise_seed', 'value']
/** `{a|b}`: the editor picks one when it makes the prompt. */
const ALTERNATIVES = /\{[^{}]*\|[^{}]*\}/

/**
 * The nodes that this one depends on, itself included, whose values change at every Run; and those that write seeds
 * into all others.
 * @param {Place} place @param {Survey} survey @returns {GraphNode[]}
 */
export function whatChanges(place, survey) {
  const all = [place, ...survey.upstream(place).values()].map(({ node }) => node)
  const everywhere = [...survey.places.keys()].filter(
    (node) => WRITES_ELSEWHERE.test(kind(node)) && !isOff(node)
  )
  return [...new Set([...all, ...everywhere])].filter(changesItself)
}

/** @param {GraphNode} node */
export function changesItself(node) {
  if (SEEDS.some((name) => isSpecial(node, name))) return true
  if (kind(node) === 'Seed (rgthree)') return false
  if (widget(node, 'autorefresh')?.value === 'Yes') return true // the Dynamic Prompts pack
  return controls(node) || (node.widgets ?? []).some((each) => picks(node, each))
}

/** Whether the editor writes another seed into the prompt: the widget says so by a way of its own to be saved. */
/** @param {GraphNode} node @param {string} name */
function isSpecial(node, name) {
  const seed = /** @type {any} */ (widget(node, name))
  const isReplaced = kind(node) === 'Seed (rgthree)' || typeof seed?.serializeValue === 'function'
  return isReplaced && SPECIAL_SEEDS.has(Number(seed?.value)) && !isLinked(node, name)
}

/** Whether "control after generate" changes a widget that nothing is linked to. @param {GraphNode} node */
function controls(node) {
  const widgets = node.widgets ?? []
  const control = widgets.find((each) => CONTROLS.test(String(each.value)) && isControl(each))
  if (!control) return false
  const owner =
    widgets.find((each) => each.linkedWidgets?.includes(control)) ??
    widgets.find((each) => SEEDS.includes(each.name)) ??
    widgets[0]
  return !isLinked(node, owner.name)
}

/** @param {Widget} each */
const isControl = ({ name, options }) =>
  /control[ _](after|before)[ _]generate/.test(name) || options?.values?.includes?.('randomize')

/** @param {GraphNode} node @param {Widget} each */
function picks(node, each) {
  const dynamic = /** @type {any} */ (each).dynamicPrompts ?? each.options?.dynamicPrompts
  return dynamic === true && ALTERNATIVES.test(String(each.value)) && !isLinked(node, each.name)
}
