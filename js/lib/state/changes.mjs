/** What gives other values at every Run by itself: random seeds, prompts with alternatives. */
import { isLinked, kind, widget } from '../comfy/links.mjs'

/** @typedef {import('../types').GraphNode} GraphNode */
/** @typedef {import('../types').Widget} Widget */
/** @typedef {import('../comfy/links.mjs').Survey} Survey */
/** @typedef {import('../comfy/links.mjs').Place} Place */

/** rgthree's Seed: random, one more, one less. */
const SPECIAL_SEEDS = new Set([-1, -2, -3])
const CONTROLS = new Set(['increment', 'decrement', 'randomize'])
const SEEDS = ['seed', 'noise_seed', 'value']
/** `{a|b}`: the editor picks one when it makes the prompt. */
const ALTERNATIVES = /\{[^{}]*\|[^{}]*\}/

/**
 * The nodes that this one depends on, itself included, whose values change at every Run.
 * @param {Place} place @param {Survey} survey @returns {GraphNode[]}
 */
export function whatChanges(place, survey) {
  const all = [place, ...survey.upstream(place).values()].map(({ node }) => node)
  return [...new Set(all)].filter(changesItself)
}

/** @param {GraphNode} node */
export function changesItself(node) {
  const seed = widget(node, 'seed')
  if (kind(node) === 'Seed (rgthree)') {
    return !isLinked(node, 'seed') && SPECIAL_SEEDS.has(Number(seed?.value))
  }
  if (widget(node, 'autorefresh')?.value === 'Yes') return true // the Dynamic Prompts pack
  return controls(node) || (node.widgets ?? []).some((each) => picks(node, each))
}

/** Whether "control after generate" changes a widget that nothing is linked to. @param {GraphNode} node */
function controls(node) {
  const widgets = node.widgets ?? []
  const control = widgets.find((each) => CONTROLS.has(each.value) && isControl(each))
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
