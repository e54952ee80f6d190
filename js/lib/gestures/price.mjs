/** What the next Run of the open workflow would spend, asked of the server: the same that scripts are told. */
import { app, note } from '../comfy/app.mjs'
import { sum } from '../format.mjs'
import { post } from '../server.mjs'
import { t } from '../text.mjs'

/**
 * @typedef {object} Price what `POST /runflow-evaluate/price` says
 * @property {number} evaluations
 * @property {string | null} credits null where a price is not known
 * @property {boolean} at_most
 * @property {{node: string, message: string}[]} problems
 * @property {string[]} notes
 */

/** Ask, and say it in a corner of the page. What Use Everywhere will connect is in the prompt that it gives itself. */
export async function sayPrice() {
  try {
    const { output } = (await app.ue_modified_prompt?.()) ?? (await app.graphToPrompt())
    /** @type {Price} */
    const price = await post('price', { prompt: output })
    const why = price.problems.map(({ node, message }) => (node ? `${node}: ${message}` : message))
    note([inWords(price), ...why, ...price.notes].join('\n'), why.length ? 'warn' : 'info')
  } catch (error) {
    note(/** @type {Error} */ (error).message, 'error')
  }
}

/** @param {Price} price */
export function inWords({ evaluations: n, credits, at_most }) {
  if (!n) return t('price.nothing')
  if (credits === null) return t('price.unknown', { n })
  return t(at_most ? 'price.at_most' : 'price.exactly', { n, credits: sum([credits]) })
}
