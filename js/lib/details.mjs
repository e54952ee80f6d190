/** What one image's evaluation says, opened: issues by judge, evidence, gates, strengths, prompt, feedback. */
import { button, copy, el } from './dom.mjs'
import { seconds } from './format.mjs'
import { rating } from './rating.mjs'
import { t } from './text.mjs'

/**
 * @param {object} verdict what the node sent
 * @param {object|null} [more] what the journal has; null while it is read, undefined where there is nothing to read
 * @param {object} host `title`, `rate(rating, reason)`, `usePrompt(text)`, `note(text)`
 * @returns {Node[]}
 */
export function details(verdict, more, host) {
  return [
    host.title && el('h4', {}, host.title),
    verdict.id && verdict.judge !== 'local' && more && !more.trouble && rating(more.feedback, host),
    list(t('details.issues'), verdict.issues, 'rf-issues'),
    more?.trouble && el('p.rf-quiet', {}, t('details.trouble', { message: more.trouble })),
    more === null && el('p.rf-quiet', {}, t('details.loading')),
    judges(more?.judges ?? verdict.judges, verdict.judge),
    list(t('details.gates'), (more?.gates ?? []).map((gate) => [gate.module || gate.output_key, gate.reason].filter(Boolean).join(': '))),
    list(t('details.strengths'), verdict.strengths.length ? verdict.strengths : (more?.strengths ?? [])),
    improved(verdict, more, host),
    footer(verdict, more)
  ].filter(Boolean)
}

const bullets = (lines, name = 'rf-plain') => el(`ul.${name}`, {}, lines.map((line) => el('li', {}, line)))
const list = (title, lines, name) => lines.length > 0 && el('section', {}, el('h4', {}, title), bullets(lines, name))

function judges(all, by) {
  if (!all?.length) return null
  const failed = all.filter((judge) => judge.passed === false)
  return el('section', {}, el('h4', {}, t(by === 'runflow' ? 'details.judges' : 'details.checks', { failed: failed.length, all: all.length })),
    [...new Set([...failed, ...all])].map(judgeBlock))
}

function judgeBlock(judge) {
  const outcome = judge.passed === null ? 'unknown' : judge.passed ? 'passed' : 'failed'
  const numbers = ['confidence', 'weight'].filter((name) => judge[name] !== null)
  const head = el('summary', {},
    el('span.rf-dot', { 'data-outcome': outcome, role: 'img', 'aria-label': t(`panel.${outcome}`) }),
    el('strong', {}, judge.name || t('details.judge')),
    judge.category && el('span.rf-chip', {}, judge.category),
    el('span.rf-quiet', {}, numbers.map((name) => `${t(`details.${name}`)} ${Number(judge[name].toFixed(2))}`).join(' · ')))
  return el('details.rf-judge', { open: outcome === 'failed' }, head,
    judge.reasoning && el('p', {}, judge.reasoning),
    bullets(judge.issues.map((issue) => [issue.kind, issue.detail].filter(Boolean).join(': ')), 'rf-issues'),
    judge.evidence.length > 0 && el('p.rf-quiet', {}, t('details.evidence')),
    bullets(judge.evidence))
}

function improved(verdict, more, host) {
  const text = verdict.improved_prompt || more?.improved_prompt
  if (!text) return null
  return el('section', {}, el('h4', {}, t('details.improved')),
    el('blockquote.rf-prompt', {}, text),
    el('div.rf-row', {},
      host.usePrompt && button(t('details.use'), () => host.usePrompt(text), { 'data-focus': 'use', title: t('details.use_tip') }),
      copier(text, 'copy-prompt')))
}

function copier(text, focus) {
  return button(t('details.copy'), async ({ currentTarget: pressed }) => {
    await copy(text, pressed)
    pressed.textContent = t('details.copied')
  }, { 'data-focus': focus, 'aria-live': 'polite' })
}

/** Only Runflow costs something; nobody takes no time. */
export function costAndTime({ judge, reused, cost, seconds: time }) {
  if (judge === 'off') return []
  if (reused) return [t('panel.reused')]
  return [seconds(time), judge === 'runflow' && cost && t('panel.credits', { cost })]
}

function footer(verdict, more) {
  const facts = [verdict.judge && t(`judge.${verdict.judge}`), ...costAndTime(verdict), more?.action, more?.reason].filter(Boolean)
  return el('footer.rf-foot', {}, el('span.rf-quiet', {}, facts.join(' · ')),
    verdict.id && el('code', { title: verdict.id }, verdict.id), verdict.id && copier(verdict.id, 'copy-id'))
}
