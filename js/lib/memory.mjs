/**
 * What each node showed, by what it depended on, and with what it ran last in each tab: it is there again after a
 * reload, and where ComfyUI has it in the cache and sends nothing. Kept in this browser, never in the workflow.
 */

const NAME = 'RunflowEvaluate.Shown'
const MOST_TABS = 50
/** Characters: the browser gives five million to all that ComfyUI and its packs keep. */
const ROOM = 500_000
const LIVES_MS = 30 * 86_400_000

const atEnd = (all, key, value) => {
  const { [key]: _before, ...others } = all
  return { ...others, [key]: value }
}

export class Memory {
  /** @param {Storage} storage */
  constructor(storage, now = Date.now) {
    Object.assign(this, { storage, now, fresh: new Set() })
  }

  /** What a node showed with these inputs; `earlier` is when, where that was before this page. */
  recall(id, identity) {
    const key = `${id} ${identity}`
    const found = this.#read().shown[key]
    return found && { shown: found.shown, earlier: this.fresh.has(key) ? null : found.at }
  }

  remember(tab, id, identity, shown) {
    const key = `${id} ${identity}`
    this.fresh.add(key)
    this.ran(tab, { [id]: identity }, atEnd(this.#read().shown, key, { shown, at: this.now() }))
  }

  /** What each node ran with last, `{id: identity}`, in the latest tab whose name begins so. */
  last(tab) {
    return Object.entries(this.#read().tabs).findLast(([name]) => name.startsWith(tab))?.[1]
  }

  ran(tab, nodes, shown = this.#read().shown) {
    const { tabs } = this.#read()
    const name = Object.keys(tabs).findLast((each) => each.startsWith(tab)) ?? tab
    this.#write(Object.entries(shown), Object.entries(atEnd(tabs, name, { ...tabs[name], ...nodes })).slice(-MOST_TABS))
  }

  #read() {
    try {
      const { shown, tabs } = JSON.parse(this.storage.getItem(NAME) ?? '{}')
      return { shown: shown ?? {}, tabs: tabs ?? {} }
    } catch (error) {
      console.debug('Runflow Evaluate: nothing to remember', error)
      return { shown: {}, tabs: {} }
    }
  }

  /** Where there is no room the oldest go first: the verdict on the screen stays. */
  #write(shown, tabs) {
    let room = ROOM
    const kept = shown.reverse().filter(([, entry]) => (room -= JSON.stringify(entry).length) > 0 && entry?.at > this.now() - LIVES_MS).reverse()
    try {
      this.storage.setItem(NAME, JSON.stringify({ shown: Object.fromEntries(kept), tabs: Object.fromEntries(tabs) }))
    } catch (error) {
      console.debug('Runflow Evaluate: storage is full', error)
      if (kept.length) this.#write(kept.slice(Math.ceil(kept.length / 4)), tabs)
      else this.storage.removeItem(NAME)
    }
  }
}
