/**
 * What every node showed, by workflow and node, newest first; and what is shown of it now.
 * The server keeps it (`nodes/_shown.py`); this is the page's copy of what it was told.
 */

/** @typedef {import('../types').PanelState} PanelState */

/** A node remembers what it showed for so many different inputs. */
const MOST = 12
/** An answer of the server may be older than an event: so many ended prompts are remembered. */
const MOST_ENDED = 100

export class Store {
  constructor() {
    /** @type {Map<string, PanelState[]>} */
    this.states = new Map()
    /** @type {Set<string>} */
    this.over = new Set()
    /** @type {Set<(workflow: string) => void>} */
    this.readers = new Set()
  }

  /** Called with the workflow whose states changed. @param {(workflow: string) => void} read */
  subscribe(read) {
    this.readers.add(read)
    return () => this.readers.delete(read)
  }

  /** What the server sent. @param {PanelState[]} states */
  put(states) {
    for (const state of states) this.#insert({ ...state, received: Date.now() })
    for (const workflow of new Set(states.map((each) => each.workflow))) this.#changed(workflow)
  }

  /** What waits in a workflow. @param {string} workflow @returns {PanelState[]} */
  waitingIn(workflow) {
    const known = [...this.states].filter(([key]) => key.startsWith(`${workflow} `))
    return known.flatMap(([, each]) => each.filter(({ phase }) => phase === 'waiting'))
  }

  /**
   * All that the server has of a workflow. What waited when it was asked, waits still and is not among it was lost:
   * the server was restarted. What was queued since then is in no such answer.
   * @param {string} workflow @param {PanelState[]} states @param {PanelState[]} waited as `waitingIn` said it then
   */
  replace(workflow, states, waited) {
    const now = this.waitingIn(workflow)
    const lost = now.filter(
      (each) => waited.some((one) => isOf(one, each)) && !states.some((one) => isOf(one, each))
    )
    this.put([...states, ...lost.map(asLost)])
    this.touch(workflow)
  }

  /** Something else that its panels show has changed. @param {string} workflow */
  touch(workflow) {
    this.#changed(workflow)
  }

  /** A prompt has ended: nothing of it waits any more. @param {string} prompt */
  ended(prompt) {
    this.over.add(prompt)
    if (this.over.size > MOST_ENDED) this.over.delete([...this.over][0])
    for (const [key, known] of this.states) {
      const left = known.filter((each) => each.prompt !== prompt || each.phase !== 'waiting')
      if (left.length === known.length) continue
      this.states.set(key, left)
      this.#changed(key.split(' ')[0])
    }
  }

  /** @param {string} workflow @param {string} node @returns {PanelState[]} newest first */
  of(workflow, node) {
    return this.states.get(`${workflow} ${node}`) ?? []
  }

  /** One entry for each thing that was judged; a waiting one ends with what comes next. */
  /** @param {PanelState} state */
  #insert(state) {
    if (state.phase === 'waiting' && this.over.has(state.prompt)) return
    const key = `${state.workflow} ${state.node}`
    const others = (this.states.get(key) ?? []).filter((each) => !replaces(state, each))
    const newest = [state, ...others].sort((a, b) => b.at - a.at)
    this.states.set(key, newest.slice(0, MOST))
  }

  /** @param {string} workflow */
  #changed(workflow) {
    for (const read of this.readers) read(workflow)
  }
}

/** Whether both are of one node in one prompt. @param {PanelState} a @param {PanelState} b */
const isOf = (a, b) => a.prompt === b.prompt && a.node === b.node

/** @param {PanelState} state @returns {PanelState} */
const asLost = (state) => ({
  ...state,
  phase: 'stopped',
  code: 'RESTARTED',
  message: '',
  at: Date.now() / 1000
})

/** As the server does it (`nodes/_shown.py`). @param {PanelState} now @param {PanelState} before */
function replaces(now, before) {
  if (before.phase === 'waiting') return true
  if (now.phase === 'waiting') return false
  return before.identity === now.identity || before.phase === 'stopped'
}

/**
 * What a node is to show: a verdict only for what was judged. What another open tab of the same file queued counts
 * where it is about exactly what is here, and nothing of this tab is.
 * @param {PanelState[]} states newest first
 * @param {(node: string) => string | undefined} madeFrom what the node of an execution id is made from now
 * @param {(prompt: string) => boolean} isHere whether a prompt may have been queued in this tab
 * @returns {{state: PanelState | null, outdated: boolean}}
 */
export function shownOf(states, madeFrom, isHere) {
  const own = states.filter((each) => isHere(each.prompt))
  const [newest] = own
  const isSame = (/** @type {PanelState} */ each) =>
    each.made_from !== '' && each.made_from === madeFrom(each.node)
  if (newest && (newest.phase === 'waiting' || isSame(newest))) {
    return { state: newest, outdated: false }
  }
  const done = [...own, ...states].filter((each) => each.phase === 'done')
  const same = done.find(isSame)
  const last = own.find((each) => each.phase === 'done')
  return { state: same ?? last ?? null, outdated: !same && last !== undefined }
}
