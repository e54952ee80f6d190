/** The panels of all nodes: puts them on, feeds them with ComfyUI's events, and restores them. */
import { price } from './cost.mjs'
import { chain, everyNode, kind, nodeOf, outputIndex, source, targets, widget } from './graph.mjs'
import { Panel } from './panel.mjs'
import { promptTargets, setWidget, textWidget } from './prompts.mjs'
import { t } from './text.mjs'

const WITH_PANEL = new Set(['RunflowEvaluateImage', 'RunflowShowVerdict', 'RunflowGetEvaluation', 'RunflowRegenerateEnd'])
const NAME = 'runflow_verdict'
/** ComfyUI shows a node's progress text in a widget of this name: ours takes its place, and the panel shows it. */
const PROGRESS_TEXT = '$$node-text-preview'
const LOOP_KEY = 'runflow_regenerate'
/** A property of End: the hash of the image that a person took instead. The server writes it into what is saved. */
const PICKED = 'runflow_picked'
const WIDTH = 320

export class Panels {
  constructor({ app, api, server, memory }) {
    Object.assign(this, { app, api, server, memory })
    this.panels = new Map()
    this.shownOn = new Map()
    this.attempts = new Map()
    this.opened = new Set()
    this.missed = new Set()
    this.workflows = new Map()
    server.listeners.add(() => this.idle())
  }

  listen() {
    const on = (name, heard, elsewhere) => this.api.addEventListener(name, ({ detail }) => this.#inTurn(detail, heard, elsewhere))
    on('executed', (detail) => this.#executed(this.#find(shownNode(detail)), detail.output), (...of) => this.#keep(...of))
    on('progress_state', ({ nodes }) => this.#running(nodes))
    on('progress_text', ({ nodeId, text }) => this.#text(nodeId, text))
    on('execution_error', (detail) => this.#failed(detail))
    on('execution_interrupted', () => this.#settle((panel) => panel.ended(t('panel.cancelled'), t('panel.cancelled_line'))))
    on('execution_success', () => this.#settle((panel, node) => this.#restore(panel, node)))
    this.api.addEventListener('graphChanged', () => this.idle())
  }

  /** Events in their order, and apart where another workflow is open than the one they are about: ids are the same there. */
  #inTurn(detail, heard, elsewhere) {
    this.prompt = detail.prompt_id ?? this.prompt // frontend 1.32 gives none with a progress text
    const asked = this.#workflowOf(this.prompt)
    this.turn = Promise.resolve(this.turn)
      .then(async () => ((await asked) === this.#root().id ? heard : elsewhere)?.(detail, await asked))
      .catch((error) => console.error('Runflow Evaluate:', error))
  }

  #workflowOf(prompt) {
    if (!this.workflows.has(prompt)) {
      const answer = this.server.get(`prompts/${prompt}`).catch(() => ({}))
      this.workflows.set(prompt, answer.then(({ workflow }) => workflow || this.#root().id))
    }
    return this.workflows.get(prompt)
  }

  nodeCreated(node) {
    if (!WITH_PANEL.has(kind(node))) return
    const panel = new Panel(this.#host(node))
    node.addDOMWidget(PROGRESS_TEXT, NAME, panel.element, {
      serialize: false, hideOnZoom: false, margin: 6, getValue: () => '', setValue: () => {}, getMinHeight: () => panel.height
    }).serialize = false
    this.panels.set(node, panel)
    chain(node, 'onRemoved', () => this.panels.delete(node))
    node.setSize([Math.max(node.size[0], WIDTH), node.computeSize()[1]])
    this.#soon(() => this.#idle(panel, node))
  }

  /** Show again what each node showed last. */
  async restore() {
    this.attempts.clear()
    const nodes = [...everyNode(this.#root())].filter((node) => this.panels.has(node))
    for (const node of nodes) this.#restore(this.panels.get(node), node)
    const unknown = this.missed.delete(this.#root().id) ? nodes : nodes.filter((node) => !this.memory.recall(keyOf(node)))
    if (unknown.length) await this.#catchUp(unknown)
  }

  /** What ended while no page listened, or in another browser: ComfyUI's history has it, by the workflow's id. */
  async #catchUp(nodes) {
    const { id } = this.#root()
    const answer = await this.api.fetchApi('/history?max_items=20')
    const runs = answer.ok ? Object.values(await answer.json()) : []
    for (const { outputs, meta } of runs.filter((run) => run.prompt?.[3]?.extra_pnginfo?.workflow?.id === id)) {
      for (const [key, output] of Object.entries(outputs)) {
        const node = this.#find(meta?.[key]?.display_node ?? key)
        if (nodes.includes(node)) this.#executed(node, output)
      }
    }
  }

  #root() {
    return this.app.rootGraph
  }

  idle() {
    this.#soon(() => {
      for (const [node, panel] of this.panels) this.#idle(panel, node)
    })
  }

  /** The node that showed this evaluation last, if it is in the open workflow. */
  nodeThatShowed(evaluationId) {
    const keys = new Set(this.memory.nodesOf(evaluationId))
    return [...this.panels.keys()].find((node) => keys.has(keyOf(node))) ?? null
  }

  /** Bring that node into view, selected and opened. */
  showNode(evaluationId) {
    const node = this.nodeThatShowed(evaluationId)
    if (!node) return this.note(t('history.not_shown'), 'info')
    if (node.graph !== this.app.canvas.graph) this.app.canvas.setGraph(node.graph)
    this.app.canvas.centerOnNode(node)
    this.app.canvas.selectNode?.(node)
    const panel = this.panels.get(node)
    if (!panel.open) panel.fold(true)
  }

  async #idle(panel, node) {
    if (!node.graph) return
    this.#remount(panel, node)
    const { line, warns } = await price(node, this.server)
    panel.idle(line, warns)
  }

  /** Undo makes the nodes anew, and Vue nodes of frontend 1.32 go on showing the panel of the one before. */
  #remount(panel, node) {
    if (!globalThis.LiteGraph?.vueNodesMode || panel.element.isConnected || node.graph !== this.app.canvas.graph) return
    document.querySelector(`[data-node-id="${CSS.escape(node.id)}"] .rf-panel`)?.replaceWith(panel.element)
  }

  /** Many events come at once: look once, when they have passed. */
  #soon(look) {
    this.looks ??= new Set()
    if (!this.looks.size) queueMicrotask(() => setTimeout(() => {
      const looks = [...this.looks]
      this.looks.clear()
      for (const each of looks) each()
    }))
    this.looks.add(look)
  }

  #restore(panel, node) {
    const found = this.memory.recall(keyOf(node))
    if (found) panel.show(found.shown, found.earlier ? found.at : null)
    if (this.opened.has(keyOf(node)) && !panel.open) panel.fold(true)
    this.#soon(() => this.#idle(panel, node))
  }

  /** Another tab's node shows it when that is opened again; one in a subgraph is looked up in ComfyUI's history then. */
  #keep(detail, workflow) {
    const shown = shownIn(detail.output)
    if (!shown) return
    const node = shownNode(detail)
    if (node.includes(':')) this.missed.add(workflow)
    else this.memory.remember(`${workflow}:${node}`, shown)
  }

  #executed(node, output) {
    const shown = shownIn(output)
    if (!shown || !node) return
    this.#show(node, shown)
    // Where Show Verdict came out of ComfyUI's cache, the node that judged sends nothing: it shows the same.
    const judged = kind(node) === 'RunflowShowVerdict' ? source(node, 'evaluation')?.node : null
    if (judged && this.panels.has(judged) && kind(judged) !== 'RunflowRegenerateEnd') this.#show(judged, shown)
  }

  #show(node, shown) {
    this.memory.remember(keyOf(node), shown)
    this.panels.get(node)?.show(shown)
  }

  /** Clones of a loop's nodes run under ids of their own; this event says which node they are shown on. */
  #running(nodes) {
    for (const state of Object.values(nodes ?? {})) {
      const shown = state.display_node_id ?? state.node_id
      this.shownOn.set(state.node_id, shown)
      if (state.state === 'running') this.#starts(this.#find(shown))
    }
  }

  #starts(node) {
    const panel = this.panels.get(node)
    if (panel && panel.state.phase !== 'waiting') panel.waiting(t('panel.started'), this.#attempt(node))
  }

  #text(id, text) {
    const node = this.#find(this.shownOn.get(id) ?? id)
    if (kind(node) === 'RunflowRegenerateStart') this.#attemptBegins(node, text)
    const panel = this.panels.get(node)
    if (panel?.state.phase === 'waiting') panel.waiting(text, this.#attempt(node))
  }

  #attemptBegins(start, text) {
    this.attempts.set(start, text.split(' · ')[0])
    const ends = targets(start, outputIndex(start, 'loop')).map((to) => this.panels.get(to.node))
    for (const panel of ends) panel?.waiting(text)
  }

  /** "attempt 2 of 3", where this node judges inside a loop. */
  #attempt(node) {
    for (const [start, text] of this.attempts) if (start.graph === node?.graph && feeds(node)) return text
    return ''
  }

  #failed({ node_id: id, exception_message: message = '' }) {
    const node = this.#find(this.shownOn.get(id) ?? id)
    this.panels.get(node)?.ended(t('panel.unknown'), message.trim())
    this.#settle((panel, each) => each !== node && this.#restore(panel, each))
  }

  /** The prompt has ended: nothing waits any more. */
  #settle(otherwise) {
    for (const [node, panel] of this.panels) {
      if (panel.state.phase !== 'waiting') continue
      panel.state = { phase: 'idle', ...panel.idleLine }
      panel.draw()
      otherwise(panel, node)
    }
    this.shownOn.clear()
    this.attempts.clear()
  }

  #find(id) {
    return id === undefined ? null : nodeOf(this.#root(), id)
  }

  #host(node) {
    return {
      thumbnail: (hash) => this.server.thumbnail(hash),
      detail: (id) => this.server.detail(id),
      rate: (id, rating, reason) => this.server.post('feedback', { id, rating, reason }),
      usePrompt: (text) => this.#usePrompt(node, text),
      picked: () => node.properties?.[PICKED],
      useAttempt: (loop, attempt, wins) => this.#useAttempt(node, loop, attempt, wins),
      note: (text, severity) => this.note(text, severity),
      resized: (by) => this.#resized(node, by),
      changed: ({ open }) => this.opened[open ? 'add' : 'delete'](keyOf(node))
    }
  }

  note(detail, severity = 'success') {
    this.app.extensionManager.toast.add({ severity, summary: t('notes.title'), detail, life: severity === 'error' ? 8000 : 3000 })
  }

  #usePrompt(node, text) {
    const found = promptTargets(node)
    if (!found.length) return this.note(t('notes.no_prompt'), 'warn')
    this.change(() => found.forEach((each) => setWidget(each.node, each.widget, text)))
    this.note(t('notes.used', { node: found[0].node.title }))
  }

  /**
   * The attempt's prompt and seed into Start. One that did not win becomes the only attempt: its image is made again,
   * its verdict is known.
   */
  #useAttempt(end, loop, { prompt, seed, image }, wins) {
    const start = this.#find(loop.start)
    const text = start && textWidget(start)
    if (!text) return this.note(t('notes.no_prompt'), 'warn')
    if (Number(seed) > Number.MAX_SAFE_INTEGER) return this.note(t('loop.too_large', { seed }), 'warn')
    this.change(() => {
      setWidget(text.node, text.widget, prompt)
      setWidget(start, widget(start, 'seed'), Number(seed))
      if (!wins) setWidget(end, widget(end, 'max_attempts'), 1)
      end.properties[PICKED] = wins ? '' : image
    })
    this.note(t(wins ? 'loop.used' : 'loop.picked'))
  }

  /** Change the graph so that one undo takes all of it back. */
  change(make) {
    const { canvas } = this.app
    canvas.emitBeforeChange()
    try {
      return make()
    } finally {
      canvas.emitAfterChange()
      canvas.setDirty(true, true)
    }
  }

  /** On the canvas a node has the height it is given; Vue nodes grow and shrink with what they hold. */
  #resized(node, by) {
    if (!node.graph || globalThis.LiteGraph?.vueNodesMode) return
    node.setSize([node.size[0], Math.max(node.computeSize()[1], node.size[1] + by)])
    node.setDirtyCanvas(true, true)
  }
}

/** Where a node is: its graph, or subgraph, and its id there. */
const keyOf = (node) => `${node.graph?.id ?? ''}:${node.id}`

const feeds = (node) => (node?.outputs ?? []).some((_, slot) => targets(node, slot).some((to) => kind(to.node) === 'RunflowRegenerateEnd'))

/** A clone of a loop's node shows on the node that it is a clone of. */
const shownNode = ({ display_node: shown, node }) => String(shown ?? node)

/** What the panel shows of a node's output. */
const shownIn = (output) => (output?.runflow || output?.[LOOP_KEY]) && { verdicts: output.runflow ?? [], loop: output[LOOP_KEY]?.[0] }
