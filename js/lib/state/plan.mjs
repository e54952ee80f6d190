/**
 * What the next Run does with a node: whether it runs or why not, who judges, and what it costs at most.
 * Reads only what it is given. What cannot be known is not claimed: neither "will not run" nor a sum.
 */
import { executionId, inputIndex, isLinked, kind, widget } from '../comfy/links.mjs'
import { sum } from '../format.mjs'
import { whatChanges } from './changes.mjs'

/** @typedef {import('../types').GraphNode} GraphNode */
/** @typedef {import('../types').Status} Status */
/** @typedef {import('../comfy/links.mjs').Survey} Survey */
/** @typedef {import('../comfy/links.mjs').Place} Place */
/** @typedef {import('../comfy/links.mjs').Source} Source */

/** @typedef {import('../types').Plan} Plan */

const MOST_ATTEMPTS = 100
/** How many evaluations one Run may ask for, where the server does not say. */
const LIMIT = 20

/** Nodes that hand on as many images as this input has. */
const KEEPS_COUNT = new Map([
  ['VAEDecode', 'samples'],
  ['VAEDecodeTiled', 'samples'],
  ['KSampler', 'latent_image'],
  ['KSamplerAdvanced', 'latent_image'],
  ['SamplerCustom', 'latent_image'],
  ['SamplerCustomAdvanced', 'latent_image'],
  ['ImageScale', 'image'],
  ['ImageScaleBy', 'image'],
  ['ImageScaleToTotalPixels', 'image'],
  ['ImageUpscaleWithModel', 'image'],
  ['ImageInvert', 'image'],
  ['ImageSharpen', 'image'],
  ['ImageBlur', 'image'],
  ['LatentUpscale', 'samples'],
  ['LatentUpscaleBy', 'samples'],
  ['RunflowRepairSwitch', 'generate']
])
/** Nodes of ComfyUI that make as many as their `batch_size` says. */
const MAKES_COUNT = /^Empty(Image|Latent\w*|\w*LatentImage)$/

/** What mends what a text says. @type {Record<string, Plan['remedy']>} */
const REMEDIES = {
  'plan.no_output': 'show',
  'plan.needs_key': 'key',
  'plan.content_needs_key': 'key',
  'plan.ask_key': 'key'
}

/** @param {string} text @param {Record<string, string | number>} [values] */
const say = (text, values = {}) => ({ text, values, warns: false, remedy: REMEDIES[text] ?? '' })
/** @param {string} text @param {Record<string, string | number>} [values] */
const warn = (text, values = {}) => ({ ...say(text, values), warns: true })

/** @type {Plan} */
const NOTHING = {
  runs: null,
  ...say(''),
  judge: '',
  price: '',
  most: '',
  images: null,
  attempts: 1,
  open: false
}

/**
 * @param {GraphNode} node
 * @param {Survey} survey of the whole graph
 * @param {Status | null} status what the server says of judge, prices and limits; null while it is not known
 * @returns {Plan}
 */
export function plan(node, survey, status) {
  const places = survey.places.get(node) ?? []
  const running = places.filter((place) => survey.running.has(executionId(place)))
  const why = whyIdle(node, places, running, survey)
  if (why) return { ...NOTHING, runs: false, ...warn(`plan.${why}`) }
  const runs = running.length > 0 || null
  return { ...ofNode(node, running.length ? running : places, survey, status), runs }
}

/**
 * @param {GraphNode} node @param {Place[]} places @param {Survey} survey @param {Status | null} status
 * @returns {Plan}
 */
function ofNode(node, places, survey, status) {
  switch (kind(node)) {
    case 'RunflowEvaluateImage':
      return ofEvaluate(node, places, survey, status)
    case 'RunflowGetEvaluation':
      return { ...NOTHING, ...say('plan.ids') }
    case 'RunflowRegenerateEnd':
      return { ...NOTHING, ...ofEnd(places, survey) }
    default:
      return { ...NOTHING, ...say('plan.show') }
  }
}

/**
 * Why ComfyUI will not run this node: "muted", "bypassed", "host_off", "no_image", "connect", "no_output"; "" where
 * it may. The first two are seen on the node; the others are certain only where no other pack connects things.
 * @param {GraphNode} node @param {Place[]} places @param {Place[]} running @param {Survey} survey
 */
function whyIdle(node, places, running, survey) {
  if (node.mode === 2) return 'muted'
  if (node.mode === 4) return 'bypassed'
  if (!places.length) return 'host_off'
  if (!survey.certain) return ''
  /** @param {string} name */
  const lacks = (name) =>
    inputIndex(node, name) >= 0 && places.every((place) => isMissing(survey.source(place, name)))
  if (lacks('image')) return 'no_image'
  if (kind(node) !== 'RunflowRegenerateEnd' && lacks('evaluation')) return 'connect'
  return running.length ? '' : 'no_output'
}

/** @param {Source} source */
const isMissing = ({ place, why }) => !place && why !== 'unknown' && why !== 'outside'

/**
 * @param {GraphNode} node @param {Place[]} places @param {Survey} survey @param {Status | null} status
 * @returns {Plan}
 */
function ofEvaluate(node, places, survey, status) {
  const own = status?.judge ?? 'runflow'
  const asked = judgeAsked(places, survey, own)
  const unset = own === 'local' && isLinked(node, 'judge_model') ? 'model' : own
  const judge = asked === 'auto' ? unset : asked
  const free = { ...NOTHING, judge }
  if (judge === 'off') return { ...free, ...say('plan.off') }
  if (judge === 'local') return { ...free, ...localLine(node, asked) }
  if (judge === 'model' || judge === 'person') return { ...free, ...say(`plan.${judge}`) }
  if (own !== 'runflow') return { ...free, ...warn('plan.needs_key') }
  return priced({ ...free, judge: 'runflow' }, places, survey, status)
}

/** The judge that the node asks for; of several, or where only the run knows, the one that costs most. */
/** @param {Place[]} places @param {Survey} survey @param {string} own */
function judgeAsked(places, survey, own) {
  const unknown = own === 'runflow' ? 'runflow' : 'auto'
  const asked = places.map((place) => String(plainValue(place, 'judge', survey) ?? unknown))
  return ['runflow', 'auto'].find((each) => asked.includes(each)) ?? asked[0]
}

/** @param {GraphNode} node @param {string} asked */
function localLine(node, asked) {
  if (asked !== 'auto') return say('plan.local')
  const content = ['evaluation_instructions', 'references'].some(
    (name) => isLinked(node, name) || String(widget(node, name)?.value ?? '').trim()
  )
  return content ? warn('plan.content_needs_key') : say('plan.ask_key')
}

/** @param {Plan} plan @param {Place[]} places @param {Survey} survey @param {Status | null} status @returns {Plan} */
function priced(plan, places, survey, status) {
  const price = highest(places.map((place) => priceOf(place, survey, status?.prices ?? {})))
  const limit = Number(status?.limit ?? LIMIT)
  const attempts = Math.max(...places.map((place) => attemptsOf(place, survey)))
  const open =
    !survey.certain || attempts === Infinity || places.some((place) => mayRepeat(place, survey))
  const counts = places.map((place) => imagesOf(survey.source(place, 'image'), survey))
  const images = counts.includes(null) ? null : Math.max(...counts.map(Number))
  const asked = sumOf(
    places.map((place, index) => attemptsOf(place, survey) * Number(counts[index]))
  )
  const known = !open && images !== null
  const evaluations = Math.min(known ? asked : limit, limit)
  const most = price ? times(price, evaluations) : ''
  const found = { ...plan, price, most, images, attempts: Math.min(attempts, limit), open }
  const line = priceLine(found, evaluations, places.length)
  const changes = whatChangesIn(places, survey)
  return {
    ...found,
    ...(changes ? warn(`${line.text}_anew`, { ...line.values, node: changes }) : line)
  }
}

/** @param {Plan} plan @param {number} evaluations @param {number} copies */
function priceLine({ price, most, images, attempts, open }, evaluations, copies) {
  if (!price) return say('plan.no_price')
  if (open) return say('plan.price_open', { price, most })
  if (images === null) {
    if (attempts === 1)
      return say(copies > 1 ? 'plan.price_open' : 'plan.price_each', { price, most })
    const each = times(price, Math.min(attempts, evaluations))
    return say('plan.price_loop_each', { price, attempts, most: each })
  }
  if (attempts > 1) return say('plan.price_loop', { price, attempts, most })
  return evaluations === 1
    ? say('plan.price', { price })
    : say('plan.price_images', { price, most, n: evaluations })
}

/** @param {string} price @param {number} count */
const times = (price, count) => sum(Array(count).fill(price))

/** @param {number[]} numbers */
const sumOf = (numbers) => numbers.reduce((all, each) => all + each, 0)

/** @param {string[]} prices "" where one of them is not known */
function highest(prices) {
  if (prices.includes('')) return ''
  return prices.reduce((most, each) => (Number(each) > Number(most) ? each : most), '0')
}

/** The price of one image in the job class that the options name; the highest where that cannot be read. */
/** @param {Place} place @param {Survey} survey @param {Record<string, string>} prices */
function priceOf(place, survey, prices) {
  const { place: options, why } = survey.source(place, 'options')
  if (!options) return why === 'open' ? (prices.standard ?? '') : highest(Object.values(prices))
  const isOurs = kind(options.node) === 'RunflowEvaluationOptions'
  const named = isOurs ? plainValue(options, 'job_class', survey) : undefined
  if (named !== undefined) return prices[String(named) || 'standard'] ?? ''
  return Object.keys(prices).length ? highest(Object.values(prices)) : ''
}

/**
 * What an input of a node says: its widget, or the widget of the plain value that is linked to it.
 * @param {Place} place @param {string} name @param {Survey} survey
 * @returns {unknown} undefined where only the run knows
 */
function plainValue(place, name, survey) {
  const index = inputIndex(place.node, name)
  if (index < 0 || !isLinked(place.node, name)) return widget(place.node, name)?.value
  const { place: from, widget: promoted, why } = survey.source(place, name)
  if (promoted) return promoted.value
  if (!from) return why === 'muted' || why === 'open' ? widget(place.node, name)?.value : undefined
  if (kind(from.node) === 'PrimitiveNode') return from.node.widgets?.[0]?.value
  if (/^Primitive(Int|String|StringMultiline)$/.test(kind(from.node))) {
    return plainValue(from, 'value', survey)
  }
  return undefined
}

/** How often the pack's loops run this node: the attempts of each loop whose body it is in. */
/** @param {Place} place @param {Survey} survey */
function attemptsOf(place, survey) {
  const attempts = loopsAround(place, survey).map((end) => {
    const given = Number(plainValue(end, 'max_attempts', survey) ?? Number.NaN)
    return Number.isFinite(given) ? Math.max(1, Math.min(given, MOST_ATTEMPTS)) : Infinity
  })
  return attempts.reduce((all, each) => all * each, 1)
}

/**
 * The ends of the loops that this node is inside of: it depends on a loop's start and not on its end.
 * @param {Place} place @param {Survey} survey @returns {Place[]}
 */
function loopsAround(place, survey) {
  const before = survey.upstream(place)
  return [...survey.running.values()].filter((end) => {
    if (kind(end.node) !== 'RunflowRegenerateEnd') return false
    const start = survey.source(end, 'loop').place
    const isInside = start && before.has(executionId(start)) && !before.has(executionId(end))
    return isInside || executionId(end) === executionId(place)
  })
}

/**
 * Whether another pack's loop, or a list, may make it judge more often than can be told: a node before it gives a
 * list, or it stands between two nodes that are not ComfyUI's own, of which one is named for a loop or the last is
 * linked to the first, as the ends of loops are.
 * @param {Place} place @param {Survey} survey
 */
function mayRepeat(place, survey) {
  const id = executionId(place)
  const before = survey.upstream(place)
  const all = [...before.values()]
  if (all.some(({ node }) => dataOf(node).output_is_list?.includes(true))) return true
  const starts = all.filter(isForeign)
  if (!starts.length) return false
  const ends = [...survey.running.values()].filter(
    (each) => isForeign(each) && survey.upstream(each).has(id)
  )
  return ends.some((end) => isLoop(end) || starts.some(isLoop) || survey.sources(end).some(isStart))

  /** @param {Source} source */
  function isStart({ place: from }) {
    return from !== null && isForeign(from) && before.has(executionId(from))
  }
}

const LOOPS = /loop|for.?each|while|repeat|iterat/i

/** @param {Place} place */
const isLoop = ({ node }) => LOOPS.test(`${kind(node)} ${dataOf(node).category ?? ''}`)

/** @param {GraphNode} node */
const dataOf = (node) => /** @type {any} */ (node.constructor)?.nodeData ?? {}

/** Neither ComfyUI's own, nor ours; ComfyUI's loops count as foreign. @param {Place} place */
function isForeign({ node }) {
  if (kind(node).startsWith('Runflow') || node.isVirtualNode) return false
  const module = String(dataOf(node).python_module ?? '')
  return !/^(nodes|comfy_extras)(\.|$)/.test(module) || /loop/i.test(`${module} ${kind(node)}`)
}

/** How many images come out of here; null where that is not known before it runs. */
/** @param {Source} source @param {Survey} survey @returns {number | null} */
function imagesOf({ place }, survey) {
  if (!place) return null
  const name = kind(place.node)
  if (KEEPS_COUNT.has(name))
    return imagesOf(survey.source(place, KEEPS_COUNT.get(name) ?? ''), survey)
  if (!MAKES_COUNT.test(name)) return null
  const count = Number(plainValue(place, 'batch_size', survey) ?? Number.NaN)
  return count >= 1 ? count : null
}

/** @param {Place[]} places @param {Survey} survey */
function ofEnd(places, survey) {
  const changes = whatChangesIn(places, survey)
  return changes ? warn('plan.show_anew', { node: changes }) : say('plan.show')
}

/** In a loop: the title of what gives other inputs at every Run, so that every Run pays anew; "" for nothing. */
/** @param {Place[]} places @param {Survey} survey */
function whatChangesIn(places, survey) {
  const looped = places.filter((place) => loopsAround(place, survey).length)
  const [found] = looped.flatMap((place) => whatChanges(place, survey))
  return found ? found.title || kind(found) : ''
}
