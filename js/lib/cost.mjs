/** What a node says before Run: what it will cost, or why it will not run. */
import { sum } from './format.mjs'
import { input, kind, loopEnd, source, whyIdle, widget } from './graph.mjs'
import { t } from './text.mjs'

/** @returns {Promise<[line: string, warns: boolean]>} */
export async function price(node, server) {
  const why = whyIdle(node)
  if (why) return warn(`idle.${why}`)
  if (kind(node) === 'RunflowGetEvaluation') return say('idle.ids')
  const judged = input(node, 'evaluation') ? source(node, 'evaluation')?.node : node
  if (!judged && input(node, 'evaluation').link == null) return warn('idle.connect')
  if (kind(node) === 'RunflowShowVerdict' || kind(judged) !== 'RunflowEvaluateImage') return say('idle.show')
  return ofEvaluate(judged, await server.status())
}

function ofEvaluate(node, status) {
  const asked = source(node, 'judge') ? 'auto' : widget(node, 'judge')?.value
  const judge = asked === 'auto' ? (status?.judge ?? 'runflow') : asked
  if (judge === 'off') return say('idle.off')
  if (judge === 'local') {
    const content = widget(node, 'evaluation_instructions')?.value?.trim() || input(node, 'references')?.link != null
    if (asked === 'auto') return content ? warn('idle.content_needs_key') : say('idle.ask_key')
    return say('idle.local')
  }
  if (status?.judge === 'local') return warn('idle.needs_key')
  const one = status?.prices?.[widget(source(node, 'options')?.node, 'job_class')?.value || 'standard']
  if (!one) return say('idle.no_price')
  const attempts = Number(widget(loopEnd(node), 'max_attempts')?.value ?? 1)
  return attempts > 1 ? say('idle.price_loop', { price: one, most: sum(Array(attempts).fill(one)) }) : say('idle.price', { price: one })
}

const say = (...text) => [t(...text), false]
const warn = (...text) => [t(...text), true]
