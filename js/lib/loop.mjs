/** The attempts of a loop, as its End sent them: what each was made from, and which one to take. */
import { button, el } from './dom.mjs'
import { sum } from './format.mjs'
import { t } from './text.mjs'
import { clean } from './verdicts.mjs'

const MOST_WORDS = 400

/** Only what the panel knows how to show of a loop; null where there is none. `items`: each image of each attempt. */
export function cleanLoop(loop, verdicts = []) {
  if (!loop || !Array.isArray(loop.attempts) || !loop.attempts.length) return null
  const won = loop.attempts[loop.winner - 1] ? loop.winner : 1
  const attempts = loop.attempts.map((each, index) => {
    const { members, images = [], evaluation_ids: [id] = [] } = each ?? {}
    const whole = {
      ...clean([{ ...each, id, image: images[0], judge: id && 'runflow' }])[0],
      number: index + 1, prompt: String(each?.prompt ?? ''), seed: digits(each?.seed_digits ?? each?.seed), images
    }
    // Of the attempt that came out the node sent everything, of the others a line for each image.
    const own = won === index + 1 && verdicts.length ? verdicts : clean(members)
    const items = own.map((one) => ({ ...whole, ...one, issues: one.issues[0] ? one.issues : whole.issues }))
    return { ...whole, items: items.length ? items : [whole] }
  })
  return {
    attempts, winner: attempts[won - 1], items: attempts.flatMap(({ items }) => items), cost: sum(attempts.map(({ cost }) => cost)),
    start: String(loop.start ?? ''), reason: String(loop.reason ?? ''), warnings: (loop.warnings ?? []).map(String)
  }
}

/** A seed as text: JavaScript's numbers lose digits above 2⁵³. */
const digits = (seed) => (/^\d{1,20}$/.test(seed) ? String(seed) : '0')

/** What an attempt was made from, what changed since the one before, and the button that takes it. */
export function attemptBlock(loop, attempt, picked, use) {
  const before = loop.attempts[attempt.number - 2]
  const wins = attempt.number === loop.winner.number
  return el('section', {},
    el('h4', {}, t(wins ? 'loop.winner' : 'loop.attempt', { n: attempt.number, all: loop.attempts.length }), picked && ` · ${t('panel.yours')}`),
    el('p.rf-quiet', {}, t('loop.seed', { seed: attempt.seed })),
    el('blockquote.rf-prompt', {}, before ? changes(before.prompt, attempt.prompt).map(([kind, text]) => (kind === 'same' ? text : el(kind, {}, text))) : attempt.prompt),
    el('div.rf-row', {}, button(t(wins ? 'loop.use' : 'loop.pick'), () => use(attempt, wins), { title: t(wins ? 'loop.use_tip' : 'loop.pick_tip'), 'data-focus': 'use-attempt' })),
    loop.warnings.map((line) => el('p.rf-warn', {}, line)))
}

/** The difference of two prompts, word by word: [["same" | "ins" | "del", text], …]. */
export function changes(before, after) {
  const [old, now] = [before, after].map((text) => ` ${text}`.match(/\s*\S+/g) ?? [])
  if (old.length > MOST_WORDS || now.length > MOST_WORDS) return [['same', after]]
  const same = (i, j) => old[i]?.trim() === now[j]?.trim()
  // How many words the rests of both have in common, in order.
  const common = [...old, ''].map(() => new Uint16Array(now.length + 1))
  for (let i = old.length; i--; ) for (let j = now.length; j--; ) common[i][j] = same(i, j) ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1])
  const found = []
  const add = (kind, word) => {
    if (found.at(-1)?.[0] === kind) found.at(-1)[1] += word
    else found.push([kind, found.length ? word : word.trimStart()])
  }
  for (let [i, j] = [0, 0]; i < old.length || j < now.length; ) {
    if (same(i, j)) [i, j] = (add('same', now[j]), [i + 1, j + 1])
    else if (j === now.length || (i < old.length && common[i + 1][j] >= common[i][j + 1])) add('del', old[i++])
    else add('ins', now[j++])
  }
  return found
}
