/** The attempts of a loop, as its End sent them: what each was made from, and which one to take. */
import { button, el } from './dom.mjs'
import { t } from './text.mjs'
import { clean } from './verdicts.mjs'

const MOST_WORDS = 400

/** Only what the panel knows how to show of a loop; null where there is none. */
export function cleanLoop(loop) {
  if (!loop || !Array.isArray(loop.attempts) || !loop.attempts.length) return null
  const attempts = loop.attempts.map((each, index) => ({
    ...clean([{ ...each, id: each?.evaluation_ids?.[0], image: each?.images?.[0], judge: each?.evaluation_ids?.length ? 'runflow' : 'local' }])[0],
    number: index + 1,
    prompt: String(each?.prompt ?? ''),
    seed: digits(each?.seed_digits ?? each?.seed)
  }))
  const winner = attempts.find(({ number }) => number === loop.winner) ?? attempts[0]
  return { attempts, winner, start: String(loop.start ?? ''), reason: String(loop.reason ?? ''), warnings: (loop.warnings ?? []).map(String) }
}

/** A seed as text: JavaScript's numbers lose digits above 2⁵³. */
const digits = (seed) => (/^\d{1,20}$/.test(seed) ? String(seed) : '0')

/** What an attempt was made from, what changed since the one before, and the button that takes it. */
export function attemptBlock(loop, attempt, picked, use) {
  const before = loop.attempts[attempt.number - 2]
  const wins = attempt === loop.winner
  return el('section', {},
    el('h4', {}, t(wins ? 'loop.winner' : 'loop.attempt', { n: attempt.number, all: loop.attempts.length }), picked && ` · ${t('panel.yours')}`),
    el('p.rf-quiet', {}, t('loop.seed', { seed: attempt.seed })),
    el('blockquote.rf-prompt', {}, before ? changes(before.prompt, attempt.prompt).map(shown) : attempt.prompt),
    el('div.rf-row', {}, button(t(wins ? 'loop.use' : 'loop.pick'), () => use(attempt, wins), { title: t(wins ? 'loop.use_tip' : 'loop.pick_tip'), 'data-focus': 'use-attempt' })),
    loop.warnings.map((line) => el('p.rf-warn', {}, line)))
}

function shown([kind, text]) {
  return kind === 'same' ? text : el(kind, {}, text)
}

/** The difference of two prompts, word by word: [["same" | "ins" | "del", text], …]. */
export function changes(before, after) {
  const [old, now] = [before, after].map((text) => text.match(/\s*\S+/g) ?? [])
  if (old.length > MOST_WORDS || now.length > MOST_WORDS) return [['same', after]]
  const found = []
  const add = (kind, text) => {
    if (found.at(-1)?.[0] === kind) found.at(-1)[1] += text
    else found.push([kind, text])
  }
  const common = lengths(old, now)
  let [i, j] = [0, 0]
  while (i < old.length || j < now.length) {
    if (i < old.length && j < now.length && old[i].trim() === now[j].trim()) [i, j] = (add('same', now[j]), [i + 1, j + 1])
    else if (j === now.length || (i < old.length && common[i + 1][j] >= common[i][j + 1])) add('del', old[i++])
    else add('ins', now[j++])
  }
  return found
}

/** How many words the rests of both have in common, in order. */
function lengths(old, now) {
  const table = Array.from({ length: old.length + 1 }, () => new Uint16Array(now.length + 1))
  for (let i = old.length - 1; i >= 0; i--) {
    for (let j = now.length - 1; j >= 0; j--) {
      table[i][j] = old[i].trim() === now[j].trim() ? table[i + 1][j + 1] + 1 : Math.max(table[i + 1][j], table[i][j + 1])
    }
  }
  return table
}
