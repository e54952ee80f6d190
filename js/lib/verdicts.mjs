/** What a list of verdicts, one per image, says as a whole. The rules are those of `runflow_api/verdict.py`. */
import { sum } from './format.mjs'

const OUTCOMES = ['passed', 'failed', 'unknown']
const JUDGES = ['runflow', 'local', 'preflight', 'off']

/** Only what the panel knows how to show, whatever was sent or stored. */
export function clean(list) {
  return objects(list).map((each) => ({
    id: text(each.id) || null,
    image: text(each.image),
    judge: text(each.judge),
    verdict: OUTCOMES.includes(each.verdict) ? each.verdict : 'unknown',
    score: number(each.score),
    issues: texts(each.issues),
    strengths: texts(each.strengths),
    judges: objects(each.judges).map((judge) => ({
      name: text(judge.name), category: '', passed: judge.passed ?? null, confidence: number(judge.confidence), weight: number(judge.weight),
      reasoning: text(judge.reasoning), evidence: texts(judge.evidence), issues: []
    })),
    improved_prompt: each.improved === false ? '' : text(each.improved_prompt),
    cost: text(each.cost),
    seconds: number(each.seconds),
    reused: each.reused === true
  }))
}

/** To find the image that did worst: not passed before passed, then by score. */
const rank = ({ verdict, score }) => (verdict === 'passed' ? 2 : 0) + (score ?? 0)

/** The batch: unknown if any is, else failed if any is; the lowest score; what it cost together. */
export function summary(list) {
  const of = (outcome) => list.filter((each) => each.verdict === outcome).length
  const outcome = of('unknown') || !list.length ? 'unknown' : of('failed') ? 'failed' : 'passed'
  const judged = list.filter((each) => each.verdict !== 'unknown' && each.score !== null)
  return {
    outcome,
    score: judged.length ? Math.min(...judged.map((each) => each.score)) : null,
    cost: sum(list.map((each) => each.cost)),
    seconds: Math.max(0, ...list.map((each) => each.seconds ?? 0)),
    passed: of('passed'),
    judge: JUDGES.find((judge) => list.some((each) => each.judge === judge)),
    reused: list.length > 0 && list.every((each) => each.reused),
    worst: list.reduce((found, each, index) => (rank(each) < rank(list[found]) ? index : found), 0)
  }
}

const objects = (list) => array(list).filter((each) => each && typeof each === 'object')
const array = (value) => (Array.isArray(value) ? value : [])
const number = (value) => (typeof value === 'number' ? value : null)
const text = (value) => (typeof value === 'string' ? value : '')
const texts = (value) => array(value).filter((each) => typeof each === 'string')
