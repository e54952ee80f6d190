/** Verdicts and loops as nodes send them, made safe to show. The rules are those of `runflow_api/evaluation/verdict.py`. */
import { sum } from '../format.mjs'

/** @typedef {import('../types').Verdict} Verdict */

const OUTCOMES = ['passed', 'failed', 'unknown']
const JUDGES = ['runflow', 'model', 'person', 'local', 'preflight', 'off']

/** @param {unknown} value */
const text = (value) => (typeof value === 'string' ? value : '')
/** @param {unknown} value */
const number = (value) => (typeof value === 'number' && Number.isFinite(value) ? value : null)
/** @param {unknown} value @returns {any[]} */
const array = (value) => (Array.isArray(value) ? value : [])
/** @param {unknown} value @returns {string[]} */
const texts = (value) => array(value).filter((each) => typeof each === 'string')
/** @param {unknown} value @returns {Record<string, any>[]} */
const objects = (value) => array(value).filter((each) => each && typeof each === 'object')

/** One entry for each image, of only what the page knows how to show. */
/** @param {unknown} list @returns {Verdict[]} */
export function clean(list) {
  return objects(list).map((each) => ({
    id: text(each.id) || null,
    image: text(each.image),
    judge: text(each.judge),
    practice: each.practice === true,
    verdict: OUTCOMES.includes(each.verdict) ? each.verdict : 'unknown',
    score: number(each.score),
    issues: texts(each.issues),
    notes: texts(each.notes),
    strengths: texts(each.strengths),
    judges: opinions(each.judges),
    improved_prompt: each.improved === false ? '' : text(each.improved_prompt),
    cost: text(each.cost),
    seconds: number(each.seconds),
    reused: each.reused === true
  }))
}

/** @param {unknown} list @returns {import('../types').Opinion[]} */
export function opinions(list) {
  return objects(list).map((judge) => ({
    name: text(judge.name),
    category: text(judge.category),
    passed: typeof judge.passed === 'boolean' ? judge.passed : null,
    confidence: number(judge.confidence),
    weight: number(judge.weight),
    reasoning: text(judge.reasoning),
    evidence: texts(judge.evidence),
    issues: array(judge.issues).map((issue) =>
      typeof issue === 'string'
        ? { detail: issue }
        : { kind: text(issue?.kind), detail: text(issue?.detail) }
    )
  }))
}

/** To find the image that did worst: not passed before passed, then by score. @param {Verdict} each */
const rank = ({ verdict, score }) => (verdict === 'passed' ? 2 : 0) + (score ?? 0)

/**
 * The batch: unknown if any is, else failed if any is; the lowest score; what it cost together.
 * @param {Verdict[]} list
 */
export function summary(list) {
  const count = (/** @type {string} */ outcome) =>
    list.filter((each) => each.verdict === outcome).length
  const rest = count('failed') ? 'failed' : 'passed'
  const scores = list
    .filter((each) => each.verdict !== 'unknown')
    .flatMap((each) => (each.score === null ? [] : [each.score]))
  return {
    outcome: count('unknown') || !list.length ? 'unknown' : rest,
    score: scores.length ? Math.min(...scores) : null,
    cost: sum(list.map((each) => each.cost)),
    seconds: list.length ? Math.max(...list.map((each) => each.seconds ?? 0)) : null,
    passed: count('passed'),
    judge: JUDGES.find((judge) => list.some((each) => each.judge === judge)) ?? '',
    practice: list.some((each) => each.practice),
    notes: [...new Set(list.flatMap((each) => each.notes))],
    reused: list.length > 0 && list.every((each) => each.reused),
    worst: list.reduce((found, each, index) => (rank(each) < rank(list[found]) ? index : found), 0)
  }
}

/** A seed as text: JavaScript's numbers lose digits above 2⁵³. @param {unknown} seed */
const digits = (seed) => (/^\d{1,20}$/.test(String(seed)) ? String(seed) : '0')

/**
 * A loop, as its End sent it; null where there is none.
 * @param {any} loop @param {Verdict[]} [verdicts] what was said of the attempt that came out
 * @returns {import('../types').Loop | null}
 */
export function cleanLoop(loop, verdicts = []) {
  if (!loop || !Array.isArray(loop.attempts) || !loop.attempts.length) return null
  const won = loop.attempts[loop.winner - 1] ? loop.winner : 1
  const attempts = loop.attempts.map((/** @type {any} */ each, /** @type {number} */ index) =>
    attemptOf(each ?? {}, index + 1, won === index + 1 ? verdicts : [])
  )
  return {
    attempts,
    winner: attempts[won - 1],
    items: attempts.flatMap((/** @type {any} */ each) => each.items),
    cost: sum(attempts.map((/** @type {any} */ each) => each.cost)),
    start: text(loop.start),
    reason: text(loop.reason),
    warnings: texts(loop.warnings)
  }
}

/** @param {any} sent @param {number} number @param {Verdict[]} verdicts @returns {import('../types').Attempt} */
function attemptOf(sent, number, verdicts) {
  const images = texts(sent.images)
  const [id] = texts(sent.evaluation_ids)
  const [made] = clean([{ ...sent, id, image: images[0], judge: id ? 'runflow' : '' }])
  const seed = digits(sent.seed_digits ?? sent.seed)
  const changes = {
    repairs: Number(sent.repairs) || 0,
    lost: texts(sent.lost),
    gained: texts(sent.gained)
  }
  const whole = { ...made, number, prompt: text(sent.prompt), seed, images, ...changes }
  // Of the attempt that came out the node sent everything, of the others a line for each image.
  const own = verdicts.length ? verdicts : clean(sent.members)
  const items = own.map((one) => ({
    ...whole,
    ...one,
    issues: one.issues[0] ? one.issues : whole.issues
  }))
  return { ...whole, items: items.length ? items : [whole] }
}
