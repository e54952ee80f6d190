/** What changed between two prompts, word by word. */
import { element } from '../dom.mjs'

const MOST_WORDS = 500
/** A word, or what ends it: prompts are lists with commas, and the word before a new one has not changed. */
const WORDS = /\s*(?:\S+?(?=[,.;:)]*(?:\s|$))|[,.;:)]+(?=\s|$))/g

/** The prompt, with what is new and what is gone marked. @param {string} before @param {string} after */
export function changedPrompt(before, after) {
  const parts = before ? changes(before, after) : [['same', after]]
  return element(
    'blockquote.rf-prompt',
    {},
    parts.map(([kind, text]) => (kind === 'same' ? text : element(kind, {}, text)))
  )
}

/** @param {string} before @param {string} after @returns {[string, string][]} [["same" | "ins" | "del", text], …] */
export function changes(before, after) {
  const [old, now] = [before, after].map((text) => ` ${text}`.match(WORDS) ?? [])
  if (old.length > MOST_WORDS || now.length > MOST_WORDS) return [['same', after]]
  const common = commonWords(old, now)
  /** @type {[string, string][]} */
  const found = []
  let [i, j] = [0, 0]
  while (i < old.length || j < now.length) {
    if (isSame(old[i], now[j])) {
      add(found, 'same', now[j])
      i++
      j++
    } else if (j === now.length || (i < old.length && common[i + 1][j] >= common[i][j + 1])) {
      add(found, 'del', old[i++])
    } else add(found, 'ins', now[j++])
  }
  return found
}

/** How many words the rests of both have in common, in order. @param {string[]} old @param {string[]} now */
function commonWords(old, now) {
  const common = [...old, ''].map(() => new Uint16Array(now.length + 1))
  for (let i = old.length; i--; ) {
    for (let j = now.length; j--; ) {
      const both = isSame(old[i], now[j])
      common[i][j] = both ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1])
    }
  }
  return common
}

/** @param {string | undefined} a @param {string | undefined} b */
const isSame = (a, b) => a !== undefined && b !== undefined && a.trim() === b.trim()

/** @param {[string, string][]} found @param {string} kind @param {string} word */
function add(found, kind, word) {
  const last = found.at(-1)
  if (last?.[0] === kind) last[1] += word
  else found.push([kind, found.length ? word : word.trimStart()])
}
