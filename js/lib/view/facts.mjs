/** What is wrong, each fact once, by the judge who says so; and the same as text, Markdown or JSON to copy. */
import { score } from '../format.mjs'
import { t } from '../text.mjs'

/** @typedef {import('../types').Verdict} Verdict */
/** @typedef {import('./inspector.mjs').More} More */

/** @param {{kind?: string, detail?: string}} issue */
const issueText = ({ kind, detail }) => [kind, detail].filter(Boolean).join(': ')
/** @param {string} text */
const plain = (text) =>
  text
    .toLowerCase()
    .replace(/[\s.:]+/g, ' ')
    .trim()

/**
 * @param {Verdict} verdict @param {More} more what the journal has
 * @returns {{name: string, lines: string[]}[]} what no judge is named for first
 */
export function factsOf(verdict, more) {
  const judges = more?.judges?.length ? more.judges : verdict.judges
  const failed = judges.filter((each) => each.passed === false)
  const groups = failed.map((judge) => ({
    name: judge.name || t('details.judge'),
    lines: judge.issues.length ? judge.issues.map(issueText) : [judge.reasoning]
  }))
  const gates = (more?.gates ?? []).map((gate) =>
    [gate.module || gate.output_key, gate.reason].filter(Boolean).join(': ')
  )
  const named = [{ name: t('details.gates'), lines: gates }, ...groups]
  const details = failed.flatMap(({ name, issues }) =>
    issues.map(({ detail }) => `${name}: ${detail}`)
  )
  const lines = named.flatMap((group) =>
    group.lines.flatMap((line) => [line, `${group.name}: ${line}`])
  )
  // An issue may name the judge, as Python joins them; one that says more than a judge does is another fact.
  const said = [...lines, ...details].map(plain)
  const others = verdict.issues.filter((issue) => !said.some((each) => each.includes(plain(issue))))
  return [{ name: '', lines: others }, ...named]
    .map(({ name, lines }) => ({ name, lines: [...new Set(lines.filter(Boolean))] }))
    .filter(({ lines }) => lines.length > 0)
}

/** @type {Record<string, (verdict: Verdict, more: More) => string>} */
export const COPIES = {
  Text: (verdict, more) => linesOf(verdict, more, '', (line) => `- ${line}`),
  Markdown: (verdict, more) =>
    linesOf(verdict, more, '### ', (line) => `- ${line.replace(/([\\`*_<>[\]])/g, '\\$1')}`),
  JSON: (verdict, more) =>
    JSON.stringify({ ...verdict, ...(more ? { journal: more } : {}) }, null, 2)
}

/** @param {Verdict} verdict @param {More} more @param {string} mark @param {(line: string) => string} item */
function linesOf(verdict, more, mark, item) {
  const prompt = verdict.improved_prompt || more?.improved_prompt
  const reached = verdict.score === null ? '' : ` ${score(verdict.score)}`
  const parts = [
    `${mark}${t(`panel.${verdict.verdict}`)}${reached}`,
    ...factsOf(verdict, more).flatMap(({ name, lines }) => [
      name && `${name}:`,
      ...lines.map(item)
    ]),
    prompt && `${t('details.improved')}: ${prompt}`,
    ...verdict.notes,
    verdict.id && `ID: ${verdict.id}`
  ]
  return parts.filter(Boolean).join('\n')
}
