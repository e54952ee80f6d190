/**
 * What each node showed last, so that it is there again after a reload, also where ComfyUI has the node's result in
 * its cache and sends nothing. Kept in this browser, never in the workflow.
 */

const NAME = 'RunflowEvaluate.Shown'
const MOST = 200
const MOST_CHARACTERS = 40_000

export class Memory {
  /** @param {Storage} storage */
  constructor(storage, now = Date.now) {
    this.storage = storage
    this.now = now
    this.fresh = new Set()
  }

  /** What that node showed: `{shown, at, earlier}`; null where nothing is known. `earlier`: before this page. */
  recall(key) {
    const found = this.#read()[key]
    return found ? { ...found, earlier: !this.fresh.has(key) } : null
  }

  remember(key, shown) {
    const written = [null, (name, value) => (name === 'judges' ? [] : value)].map((less) => JSON.stringify({ shown, at: this.now() }, less))
    const entry = written.find(({ length }) => length <= MOST_CHARACTERS)
    if (!entry) return
    this.fresh.add(key)
    const { [key]: _before, ...others } = this.#read()
    const kept = Object.entries(others).slice(-(MOST - 1))
    this.#write(Object.fromEntries([...kept, [key, JSON.parse(entry)]]))
  }

  /** The nodes that showed this evaluation, newest last. */
  nodesOf(evaluationId) {
    const holds = ([, entry]) => entry.shown?.verdicts?.some((each) => each.id === evaluationId)
    return Object.entries(this.#read()).filter(holds).map(([key]) => key)
  }

  #read() {
    try {
      const found = JSON.parse(this.storage.getItem(NAME) ?? '{}')
      return found && typeof found === 'object' ? found : {}
    } catch (error) {
      console.debug('Runflow Evaluate: what was shown before cannot be read', error)
      return {}
    }
  }

  /** A full storage costs the memory of older nodes, never the verdict on the screen. */
  #write(entries) {
    try {
      this.storage.setItem(NAME, JSON.stringify(entries))
    } catch (error) {
      console.debug('Runflow Evaluate: what is shown cannot be kept', error)
      this.storage.removeItem(NAME)
    }
  }
}
