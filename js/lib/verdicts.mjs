/** What a list of verdicts, one per image, says as a whole. The rules are those of `runflow_api/verdict.py`. */
import { sum } from './format.mjs'

export const OUTCOMES = ['passed', 'failed', 'unknown']

/** Only what the panel knows how to show, whatever was sent or stored. */
export function clean(list) {
  return (Array.isArray(list) ? list : []).filter((each) => each && typeof each === 'object').map((each) => ({
    id: text(each.id) || null,
    image: text(each.image),
    judge: text(each.judge),
    verdict: OUTCOMES.includes(each.verdict) ? each.verdict : 'unknown',
    passed: each.passed === true,
    score: typeof each.score === 'number' ? each.score : null,
    issues: texts(each.issues),
    strengths: texts(each.strengths),
    improved_prompt: each.improved === false ? '' : text(each.improved_prompt),
    cost: text(each.cost),
    seconds: typeof each.seconds === 'number' ? each.seconds : null,
    reused: each.reused === true,
    error: text(each.error) || null
  }))
}

/** The batch: unknown if any is, else failed if any is; the lowest score; what it cost together. */
export function summary(list) {
  const has = (outcome) => list.some((each) => each.verdict === outcome)
  const outcome = has('unknown') ? 'unknown' : has('failed') ? 'failed' : 'passed'
  const judged = list.filter((each) => each.verdict !== 'unknown' && each.score !== null)
  return {
    outcome,
    score: judged.length ? Math.min(...judged.map((each) => each.score)) : null,
    cost: sum(list.map((each) => each.cost)),
    seconds: Math.max(0, ...list.map((each) => each.seconds ?? 0)),
    passed: list.filter((each) => each.verdict === 'passed').length,
    local: list.some((each) => each.judge === 'local'),
    off: list.length > 0 && list.every((each) => each.judge === 'off'),
    preflight: list.length > 0 && list.every((each) => each.judge === 'preflight'),
    reused: list.length > 0 && list.every((each) => each.reused),
    worst: worst(list)
  }
}

/** The position of the image that did worst: not passed before passed, then by score. */
export function worst(list) {
  const rank = (each) => (each.passed ? 2 : 0) + (each.score ?? 0)
  return list.reduce((found, each, index) => (rank(each) < rank(list[found]) ? index : found), 0)
}

function text(value) {
  return typeof value === 'string' ? value : ''
}

function texts(value) {
  return (Array.isArray(value) ? value : []).filter((each) => typeof each === 'string')
}
