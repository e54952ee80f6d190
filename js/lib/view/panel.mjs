/**
 * The panel on a node: whether it passed, the score, what is wrong, what the next Run costs, and one thing to press.
 * A pure function of what is known; its height depends on the kind of node only, so that nothing jumps.
 */
import { button, element } from '../dom.mjs'
import { ago, score, seconds } from '../format.mjs'
import { clean, cleanLoop, summary } from '../state/verdicts.mjs'
import { has, t } from '../text.mjs'
import { changesOf } from './matrix.mjs'
import { costAndTime, meter, pill } from './score.mjs'
import { strip } from './strip.mjs'

const ISSUES = 3
const BESIDE_STRIP = 1
/** What is older than this was not just now. */
const EARLIER_MS = 120_000
/** Who is waited for in these is not Runflow. */
const OWN_WAITING = ['answering', 'asking']

/**
 * @typedef {object} Given what a panel shows
 * @property {'line' | 'whole'} size
 * @property {import('../types').PanelState | null} state
 * @property {boolean} outdated the state is about something else than the node would judge now
 * @property {import('../types').Plan | null} plan what the next Run does
 * @property {{p50: number, p90: number} | null} usual how many seconds a verdict takes
 * @property {string} trouble why the page knows nothing, "" where it does
 * @property {number} selected which image of the strip
 * @property {string} picked the image that a person took
 * @property {number} now milliseconds since 1970
 *
 * @typedef {object} Acts
 * @property {(index: number) => void} open the details of an image
 * @property {(index: number, opens: boolean) => void} choose
 * @property {() => void} cancel
 * @property {(remedy: string) => void} mend
 */

/** What a state says: the images, as a whole and each. @param {import('../types').PanelState | null} state */
export function contentOf(state) {
  const verdicts = clean(state?.verdicts)
  const loop = cleanLoop(state?.loop, verdicts)
  const sum = summary(verdicts)
  const first = loop ? loop.items.indexOf(loop.winner.items[0]) : 0
  return { verdicts, loop, sum, items: loop?.items ?? verdicts, worst: first + sum.worst }
}

/** In which of six states a panel is. @param {Given} given */
export function outcomeOf({ state }) {
  if (!state) return 'idle'
  return state.phase === 'done' ? contentOf(state).sum.outcome : state.phase
}

/** @param {Given} given @param {Acts} acts @returns {import('../dom.mjs').Description[]} */
export function panelView(given, acts) {
  const content = contentOf(given.state)
  const outcome = outcomeOf(given)
  const head = [pill(outcome, titleOf(given, content)), scoreOf(given, content)]
  const about = chips(given, content).map((each) => element('span.rf-chip', { title: each }, each))
  const action = actionOf(given, content, acts)
  if (given.size === 'line') {
    const warned = (!given.state && given.plan?.warns) || null // then the reason has the room
    const line = lineOf(given, content)
    return [element('div.rf-head', { 'data-warned': warned }, head, about, line, action)]
  }
  const least = given.state?.min_score ?? 0
  const reached = meter(given.state?.phase === 'done' ? content.sum.score : null, least)
  return [
    element('div.rf-head', {}, head, element('span.rf-space'), action),
    element('div.rf-bar-row', {}, reached, about),
    middle(given, content, acts),
    foot(given, content, acts)
  ]
}

/** What a screen reader is told when it changes. @param {Given} given */
export function spoken(given) {
  const content = contentOf(given.state)
  const reached = content.sum.score === null ? '' : `, ${score(content.sum.score)}`
  return `${titleOf(given, content)}${given.state?.phase === 'done' ? reached : ''}`
}

/** @typedef {ReturnType<typeof contentOf>} Content */

/** @param {Given} given @param {Content} content */
function titleOf({ state }, { sum, verdicts }) {
  if (!state) return t('panel.idle')
  if (state.phase === 'waiting') return t('panel.waiting')
  if (state.phase === 'stopped') {
    if (state.code === 'CANCELLED') return t('panel.cancelled')
    return has(`code.${state.code}`) ? codeText(state.code) : t('panel.unknown')
  }
  if (sum.judge === 'off') return t('panel.off')
  const all = verdicts.length
  return all > 1 ? t('panel.batch', { passed: sum.passed, all }) : t(`panel.${sum.outcome}`)
}

/** @param {Given} given @param {Content} content */
function scoreOf({ state }, { sum }) {
  if (state?.phase !== 'done' || sum.score === null) return null
  return element('span.rf-score', { 'data-outcome': sum.outcome }, score(sum.score))
}

/** @param {Given} given @param {Content} content */
function chips({ state, outdated, picked, size, now }, { sum, loop, verdicts }) {
  if (state?.phase !== 'done') return []
  const known = ['local', 'preflight', 'model', 'person'].includes(sum.judge)
  const local = sum.judge === 'local' && size === 'line'
  const judge = local ? t('panel.local_line') : t(`panel.${sum.judge}`)
  const earlier = size === 'whole' && now - state.at * 1000 > EARLIER_MS
  const lowest = size === 'whole' && verdicts.length > 1 && sum.score !== null
  return [
    outdated && t('panel.outdated'),
    lowest && t('panel.lowest', { all: verdicts.length }),
    sum.practice && t('panel.practice'),
    known && judge,
    picked && loop?.winner.images.includes(picked) && t('panel.yours'),
    earlier && ago(state.at * 1000, now)
  ]
    .filter(Boolean)
    .slice(0, size === 'line' ? 1 : undefined)
}

/** @param {Given} given @param {Content} content @param {Acts} acts */
function actionOf({ state, plan, size }, content, acts) {
  if (state?.phase === 'waiting')
    return button(t('panel.cancel'), acts.cancel, { 'data-focus': 'action' })
  const remedy = plan?.remedy || remedyOf(state)
  if (remedy && (size === 'line' || !state || state.phase === 'stopped'))
    return mendButton(remedy, acts)
  if (!state || (state.phase === 'done' && content.sum.judge === 'off')) return null
  const opens = () => acts.open(content.worst)
  return button(t('panel.more'), opens, { 'data-focus': 'action', 'aria-haspopup': 'dialog' })
}

/** @param {string} remedy @param {Acts} acts */
const mendButton = (remedy, acts) =>
  button(t(`panel.mend.${remedy}`), () => acts.mend(remedy), { 'data-focus': 'mend' })

/** What would help against what stopped it. @param {Given['state']} state */
function remedyOf(state) {
  if (state?.phase !== 'stopped') return ''
  return ['UNAUTHORIZED', 'MISSING_API_KEY'].includes(state.code) ? 'key' : ''
}

/** What there is to say in one line. @param {Given} given @param {Content} content */
function lineOf(given, content) {
  const lines = linesOf(given, content)
  const first = given.state?.phase === 'waiting' ? lines.join(' · ') : (lines[0] ?? '')
  const warns = given.plan?.warns === true && given.state?.phase !== 'waiting'
  const note = notesOf(given, content)[0]
  const said = content.sum.outcome === 'passed' ? note || first : first || note
  const text = warns ? planText(given) : said || planText(given)
  return element(
    'span.rf-cut.rf-quiet.rf-space.rf-brief',
    { class: warns ? 'rf-warn' : '', title: text },
    element('span', {}, text)
  )
}

/** @param {Given} given @param {Content} content @param {Acts} acts */
function middle(given, content, acts) {
  const { items } = content
  const many = given.state?.phase === 'done' && items.length > 1
  const notes = many ? [] : notesOf(given, content)
  const room = many ? BESIDE_STRIP : ISSUES
  const lines = linesOf(given, content).slice(0, notes.length ? room - 1 : room)
  return element(
    'div.rf-middle',
    {},
    many &&
      strip({
        items,
        selected: Math.min(given.selected, items.length - 1),
        winner: content.loop?.winner.number ?? 0,
        picked: given.picked,
        choose: acts.choose
      }),
    given.state?.phase === 'done'
      ? element(
          'ul.rf-issues',
          {},
          lines.map((each) => element('li.rf-cut', { title: each }, each))
        )
      : element('p.rf-lines', { title: lines.join('\n') }, lines.join('\n')),
    notes.length > 0 &&
      element('p.rf-note.rf-cut.rf-quiet', { title: notes.join('\n') }, notes.join(' · '))
  )
}

/** What is wrong, or how it waits, or why it stopped. @param {Given} given @param {Content} content */
function linesOf(given, { sum, verdicts, loop }) {
  const { state, plan, trouble } = given
  if (!state) return [trouble || (plan ? planText(given) : '')]
  if (state.phase === 'waiting') return waitingLines(given)
  if (state.phase === 'stopped') {
    return [
      ['CANCELLED', 'RESTARTED'].includes(state.code)
        ? t('panel.cancelled_line')
        : state.message || codeText(state.code)
    ]
  }
  if (sum.judge === 'off') return [t('plan.off')]
  const worst = verdicts[sum.worst]
  const own = worst?.issues.length ? worst.issues : (worst?.strengths ?? [])
  return [...(loop?.warnings ?? []), ...(loop ? changesOf(loop.winner) : []), ...own]
}

/** How it was judged, apart from what is wrong. @param {Given} given @param {Content} content */
const notesOf = ({ state }, { sum }) => (state?.phase === 'done' ? sum.notes : [])

/** @param {Given} given */
export function waitingLines({ state, usual, now }) {
  if (!state) return []
  const { judged = 0, of = 1, attempt = 0, attempts = 0, elapsed = 0 } = state.numbers
  const gone = elapsed + Math.max(0, now - (state.received ?? now)) / 1000
  const first = [
    attempt > 0 && t('waiting.attempt', { n: attempt, all: attempts }),
    of > 1 && t('waiting.judged', { judged, all: of }),
    waitingText(state.code)
  ]
  const usually =
    usual && !OWN_WAITING.includes(state.code)
      ? t('waiting.usual', { low: seconds(usual.p50), high: seconds(usual.p90) })
      : ''
  return [
    first.filter(Boolean).join(' · '),
    [seconds(Math.floor(gone)), usually].filter(Boolean).join(' · '),
    state.message
  ].filter(Boolean)
}

/** Codes of the server in words. @param {string} code */
const codeText = (code) => (has(`code.${code}`) ? t(`code.${code}`) : code)
/** @param {string} code */
const waitingText = (code) => (has(`waiting.${code}`) ? t(`waiting.${code}`) : code)

/** @param {Given} given */
const planText = ({ plan }) => (plan ? t(plan.text, plan.values) : '')

/** What the next Run costs, or that nothing will run, where there is room for a few words. @param {Given['plan']} plan */
export function briefPrice(plan) {
  if (!plan || (!plan.warns && !plan.price)) return ''
  if (plan.warns || plan.images === null) return t(plan.text, plan.values)
  const bound = plan.open || plan.attempts > 1 ? '≤ ' : ''
  return bound + t('panel.credits', { cost: plan.most })
}

/** Beside what was spent, a sum says that it is the next Run's. @param {Given} given */
function nextText(given) {
  const text = planText(given)
  const isPrice = given.plan?.judge === 'runflow' && !given.plan.warns
  return isPrice ? t('panel.next', { price: text }) : text
}

/** Time and credits, of a loop those of all attempts, notes where the strip takes their line; what the next Run does. */
/** @param {Given} given @param {Content} content @param {Acts} acts */
function foot(given, content, acts) {
  const { state, plan } = given
  const { sum, loop } = content
  const done = state?.phase === 'done'
  const spent = loop
    ? { ...sum, cost: loop.cost, reused: sum.reused && !loop.cost, seconds: null }
    : sum
  const facts = done ? costAndTime(spent) : []
  if (done && loop?.reason && loop.reason !== sum.outcome) facts.push(loop.reason)
  if (content.items.length > 1) facts.push(...notesOf(given, content))
  const next = state && (plan?.warns || plan?.judge) ? nextText(given) : ''
  return element(
    'div.rf-foot-line',
    {},
    element('span.rf-quiet.rf-facts', { title: facts.join('\n') }, facts.join(' · ')),
    element(
      'span.rf-cut.rf-next',
      { class: plan?.warns ? 'rf-warn' : 'rf-quiet', title: next },
      next
    ),
    state && done && plan?.remedy && mendButton(plan.remedy, acts)
  )
}
