/** What the journal has of each evaluation, and how it is rated: read once, and shared by all that shows it. */
import { detail, post } from '../server.mjs'
import { opinions } from './verdicts.mjs'

/** @typedef {import('../types').Detail & {trouble?: string}} Known */

/** @type {Map<string, Known | null>} null: being read */
const known = new Map()
/** @type {Set<() => void>} */
const readers = new Set()
const MOST = 200

/** Called whenever something more is known. @param {() => void} read @returns {() => void} ends it */
export function onEvaluations(read) {
  readers.add(read)
  return () => readers.delete(read)
}

/** What is known; undefined where nobody asked for it. @param {string | null} id */
export const knownOf = (id) => (id === null ? undefined : known.get(id))

/** Read what the journal has, unless it is known. @param {string | null} id */
export async function load(id) {
  if (!id || (known.has(id) && !known.get(id)?.trouble)) return
  if (known.size >= MOST) known.delete([...known.keys()][0])
  known.set(id, null)
  changed()
  try {
    const found = await detail(id)
    known.set(id, { ...found, judges: opinions(found.judges) })
  } catch (error) {
    known.set(id, /** @type {any} */ ({ id, trouble: /** @type {Error} */ (error).message }))
  }
  changed()
}

/**
 * Rate an evaluation at Runflow. Throws where it was not taken.
 * @param {string} id @param {'good' | 'bad' | 'clear'} rating @param {string} reason
 */
export async function rate(id, rating, reason) {
  const { feedback } = await post('feedback', { id, rating, reason })
  const before = known.get(id)
  known.set(id, /** @type {any} */ ({ ...before, id, feedback }))
  changed()
  return feedback
}

function changed() {
  for (const read of readers) read()
}
