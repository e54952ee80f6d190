/** What a saved image says of its own verdict: the text that Save Judged Images puts into its PNG. Nothing is sent. */
import { VERDICTS } from './rows.mjs'

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10]
const KEYWORD = 'runflow_verdict'
const MOST_BYTES = 256 * 1024 * 1024
const MOST_CHARACTERS = 200_000
const MOST_ISSUES = 100
const MOST_TEXT = 4000

/**
 * @typedef {object} Said
 * @property {import('../types').Verdict} item as an inspector shows it
 * @property {string} prompt
 */

/** @param {Blob} file @param {string} note what is said beside it @returns {Promise<Said | null>} null if it says nothing */
export async function readVerdict(file, note) {
  if (file.size > MOST_BYTES) return null
  const text = textIn(new DataView(await file.arrayBuffer()))
  if (!text || text.length > MOST_CHARACTERS) return null
  try {
    return saidBy(JSON.parse(text), note)
  } catch {
    return null // another program's text, or a damaged one
  }
}

/** The text of the chunk with our keyword (PNG, 11.3.3). @param {DataView} data */
function textIn(data) {
  if (data.byteLength < 8 || SIGNATURE.some((byte, at) => data.getUint8(at) !== byte)) return ''
  for (let at = 8; at + 8 <= data.byteLength; ) {
    const length = data.getUint32(at)
    const kind = latin1(data, at + 4, 4)
    if (at + 12 + length > data.byteLength) return ''
    if (kind === 'tEXt' && length > KEYWORD.length) {
      const [keyword, text] = split(data, at + 8, length)
      if (keyword === KEYWORD) return text
    }
    at += 12 + length
  }
  return ''
}

/** Keyword and text, which a zero byte divides. @param {DataView} data @param {number} from @param {number} length */
function split(data, from, length) {
  const whole = latin1(data, from, Math.min(length, MOST_CHARACTERS + KEYWORD.length + 1))
  const end = whole.indexOf('\0')
  return [whole.slice(0, Math.max(0, end)), whole.slice(end + 1)]
}

/** @param {DataView} data @param {number} from @param {number} length */
function latin1(data, from, length) {
  return new TextDecoder('latin1').decode(
    new Uint8Array(data.buffer, data.byteOffset + from, length)
  )
}

/** Whoever has the file can have changed it: only what has the right form is taken. @param {any} given @param {string} note */
function saidBy(given, note) {
  if (!VERDICTS.includes(given?.verdict)) return null
  const text = (/** @type {unknown} */ value) =>
    typeof value === 'string' ? value.slice(0, MOST_TEXT) : ''
  const issues = Array.isArray(given.issues) ? given.issues : []
  const isScore = typeof given.score === 'number' && given.score >= 0 && given.score <= 1
  return {
    item: {
      ...{ id: text(given.id) || null, image: hash(given.judged_image), verdict: given.verdict },
      ...{
        judge: text(given.judge),
        judged_by: text(given.judged_by),
        practice: given.practice === true
      },
      ...{ score: isScore ? given.score : null, judges: [], strengths: [], reused: true },
      issues: issues.slice(0, MOST_ISSUES).map(text).filter(Boolean),
      notes: [note],
      ...{ improved_prompt: text(given.improved_prompt), cost: text(given.cost), seconds: null }
    },
    prompt: text(given.prompt)
  }
}

/** The picture of those pixels, which this ComfyUI may have. @param {unknown} value */
const hash = (value) => (typeof value === 'string' && /^[0-9a-f]{16,128}$/.test(value) ? value : '')
