/** Which text widget a prompt comes from, and how it is changed so that one undo takes it back. */
import { input, source, upstream, widget } from './graph.mjs'

const DEEP = 20

/**
 * The widgets to write an improved prompt into, as `{node, widget}`: what feeds the judged prompt, and where nothing
 * does, the text that the image was made from and the prompt on Evaluate itself.
 */
export function promptTargets(node) {
  const evaluate = input(node, 'evaluation') ? source(node, 'evaluation')?.node : node
  if (!evaluate) return []
  const fed = source(evaluate, 'generation_prompt')
  if (fed) return [textWidget(fed.node)].filter(Boolean)
  const own = widget(evaluate, 'generation_prompt')
  const encoder = encoderOf(evaluate)
  return [encoder, own && (own.value || !encoder) && { node: evaluate, widget: own }].filter(Boolean)
}

/** The text that made the image: of the first sampler upstream, its positive prompt. */
export function encoderOf(node) {
  return upstream(node).map(samplerText).find(Boolean) ?? null
}

/** The prompt of what makes images: of a sampler its positive one, through a guider too, else its own; or null. */
export function samplerText(node) {
  if (input(node, 'positive')) return textOfConditioning(node, 'positive')
  const guider = input(node, 'guider') && source(node, 'guider')?.node
  if (guider) return textOfConditioning(guider, input(guider, 'positive') ? 'positive' : 'conditioning')
  const makes = (node.outputs ?? []).some(({ type }) => type === 'IMAGE' || type === 'LATENT')
  return makes && widget(node, 'prompt') ? textWidget(node) : null
}

/** Follow a conditioning upstream to the text it was encoded from. */
function textOfConditioning(node, name, deep = DEEP) {
  const from = source(node, name)?.node
  if (!from || !deep) return null
  const next = ['positive', 'conditioning', 'conditioning_1', 'conditioning_to'].find((each) => input(from, each)?.link != null)
  return next ? textOfConditioning(from, next, deep - 1) : textWidget(from)
}

/** The text widget that decides what this node says, wherever it is linked from. */
export function textWidget(node, deep = DEEP) {
  if (!node || !deep) return null
  const texts = (node.widgets ?? []).filter(({ value, type }) => typeof value === 'string' && ['customtext', 'string', 'text', 'textarea', 'STRING'].includes(type))
  const found = ['prompt', 'text', 'value', 'string', 'generation_prompt'].map((name) => texts.find((each) => each.name === name)).find(Boolean) ?? texts[0]
  const linked = found ? source(node, found.name) : (node.inputs ?? []).filter(({ type }) => type === 'STRING').map(({ name }) => source(node, name)).find(Boolean)
  if (linked) return textWidget(linked.node, deep - 1)
  return found ? { node, widget: found } : null
}

/** Give a widget a value as if it had been typed. */
export function setWidget(node, each, value) {
  const before = each.value
  each.value = value
  each.callback?.(value)
  node.onWidgetChanged?.(each.name, value, before, each)
  node.setDirtyCanvas?.(true, true)
}
