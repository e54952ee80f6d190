/** What a node says before Run: what it will cost, or why it will not run. */
import { times } from './format.mjs'
import { input, kind, loopEnd, source, whyIdle, widget } from './graph.mjs'
import { t } from './text.mjs'

/** @returns {Promise<{line: string, warns: boolean}>} */
export async function price(node, server) {
  const why = whyIdle(node)
  if (why) return warn(t(`idle.${why}`))
  if (kind(node) === 'RunflowGetEvaluation') return say(t('idle.ids'))
  const judged = input(node, 'evaluation') ? source(node, 'evaluation')?.node : node
  if (!judged) return input(node, 'evaluation').link == null ? warn(t('idle.connect')) : say(t('idle.show'))
  if (kind(node) === 'RunflowShowVerdict' || kind(judged) !== 'RunflowEvaluateImage') return say(t('idle.show'))
  return ofEvaluate(judged, await server.status())
}

function ofEvaluate(node, status) {
  const asked = source(node, 'judge') ? 'auto' : widget(node, 'judge')?.value
  const judge = asked === 'auto' ? (status?.judge ?? 'runflow') : asked
  if (judge === 'off') return say(t('idle.off'))
  if (judge === 'local') return local(node, asked)
  if (status?.judge === 'local') return warn(t('idle.needs_key'))
  const one = status?.prices?.[jobClass(node)]
  if (!one) return say(t('idle.no_price'))
  const end = loopEnd(node)
  const attempts = Number(widget(end, 'max_attempts')?.value ?? 1)
  return say(attempts > 1 ? t('idle.price_loop', { price: one, most: times(one, attempts) }) : t('idle.price', { price: one }))
}

function local(node, asked) {
  const content = Boolean(widget(node, 'evaluation_instructions')?.value?.trim()) || input(node, 'references')?.link != null
  if (asked === 'auto' && content) return warn(t('idle.content_needs_key'))
  return say(t(asked === 'auto' ? 'idle.ask_key' : 'idle.local'))
}

function jobClass(node) {
  return widget(source(node, 'options')?.node, 'job_class')?.value || 'standard'
}

const say = (line) => ({ line, warns: false })
const warn = (line) => ({ line, warns: true })
