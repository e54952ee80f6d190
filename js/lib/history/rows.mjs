/** The pages of the journal that were read, for what is asked now. An answer to an earlier question comes too late. */
import { request } from '../server.mjs'

/**
 * @typedef {object} Row a line of `GET /runflow-evaluate/history`
 * @property {number} row
 * @property {string | null} id
 * @property {string} outcome passed, failed, unknown, error, open, closed, abandoned
 * @property {number | null} score
 * @property {string | null} cost
 * @property {number | null} seconds
 * @property {number} created_at seconds since 1970
 * @property {string} prompt
 * @property {string} image
 * @property {string} issue
 * @property {string | null} failure
 * @property {import('../types').Feedback} feedback
 * @property {string} [prompt_id]
 * @property {string} [judge]
 * @property {string} [judged_by]
 * @property {boolean} [practice] the sandbox answered
 */

/** The outcomes that a judge gave. */
export const VERDICTS = ['passed', 'failed', 'unknown']

/**
 * @typedef {object} Query
 * @property {string} search
 * @property {string} outcome "" for all
 * @property {string} rating "" for all
 * @property {string} workflow the id of a workflow, "" for all
 * @property {number} days how far back, 0 for all
 * @property {string} sort best or worst score first, "" for the newest first
 */

const DAY_S = 86_400

/** @returns {Query} */
export const noQuery = () => ({
  search: '',
  outcome: '',
  rating: '',
  workflow: '',
  days: 0,
  sort: ''
})

/** Whether a query leaves rows out. @param {Query} query */
export const narrows = (query) => Object.values(query).some(Boolean)

/** As the route wants it; days begin at midnight UTC, as those of limits do. @param {Query} query */
export function parameters({ days, ...others }, now = Date.now()) {
  const today = Math.floor(now / 1000 / DAY_S)
  const since = days ? (today - days + 1) * DAY_S : ''
  const all = Object.entries({ ...others, since: String(since) })
  return Object.fromEntries(all.filter(([, value]) => value !== ''))
}

export class Rows {
  /** @type {Row[]} */
  rows = []
  reading = false
  complete = false
  /** Why the last page could not be read. */
  trouble = ''
  /** @type {number | string} */
  #before = ''
  #turn = 0
  /** @type {Query | null} */
  query = null

  /** @param {() => void} changed */
  constructor(changed) {
    this.changed = changed
  }

  /** Begin again with another question. @param {Query} query */
  ask(query) {
    Object.assign(this, { rows: [], complete: false, trouble: '', reading: false, query })
    this.#before = ''
    this.#turn++
    return this.more()
  }

  /** Read the next page, once however often it is asked for; after a failure, again. */
  async more() {
    if (this.reading || this.complete || !this.query) return
    const turn = this.#turn
    Object.assign(this, { reading: true, trouble: '' })
    this.changed()
    try {
      const asked = { ...parameters(this.query), before: String(this.#before) }
      const page = await request(`history?${new URLSearchParams(asked)}`)
      if (turn !== this.#turn) return
      this.rows.push(...page.rows)
      this.complete = page.next === null
      this.#before = page.next ?? ''
    } catch (error) {
      if (turn !== this.#turn) return
      this.trouble = /** @type {Error} */ (error).message
    }
    this.reading = false
    this.changed()
  }

  /** What is newer or has changed takes the place of what is there. @param {Row} row */
  replace(row) {
    this.rows = this.rows.map((each) => (each.row === row.row ? row : each))
    this.changed()
  }
}
