/** The panels of all nodes: puts them on, feeds them with ComfyUI's events, and restores them. */
import { price } from './cost.mjs'
import { chain, kind, nodeOf, outputIndex, source, targets, widget } from './graph.mjs'
import { Panel } from './panel.mjs'
import { promptTargets, setWidget, textWidget } from './prompts.mjs'
import { t } from './text.mjs'

const WITH_PANEL = new Set(['RunflowEvaluateImage', 'RunflowShowVerdict', 'RunflowGetEvaluation', 'RunflowRegenerateEnd'])
/** ComfyUI shows a node's progress text in a widget of this name: ours takes its place, and the panel shows it. */
const PROGRESS_TEXT = '$$node-text-preview'
const WIDTH = 320

export class Panels {
  constructor({ app, api, server, memory }) {
    Object.assign(this, { app, api, server, memory, panels: new Map(), shownOn: new Map(), attempts: new Map(), runs: new Map() })
    server.onchange = () => this.idle()
  }

  listen() {
    // In their order, and apart where another tab is open than the one they are about: ids are the same there.
    const on = (name, heard, elsewhere) => this.api.addEventListener(name, ({ detail }) => {
      this.prompt = detail.prompt_id ?? this.prompt // frontend 1.32 gives none with a progress text
      const asked = this.#run(this.prompt)
      this.#inOrder(async () => {
        const run = await asked
        return (run.place() === this.#place() ? heard : elsewhere)?.(detail, run)
      })
    })
    on('execution_start')
    on('executed', (detail, run) => this.#sent(detail, run, true), (detail, run) => this.#sent(detail, run))
    on('progress_state', ({ nodes }) => this.#running(nodes))
    on('progress_text', ({ nodeId, text }) => this.#text(nodeId, text))
    on('execution_error', (detail, run) => this.#failed(detail, run))
    on('execution_interrupted', () => this.#settle((panel) => panel.ended(t('panel.cancelled'), t('panel.cancelled_line'))))
    on('execution_success', (_, run) => this.#ended(run), (_, run) => this.memory.ran(run.place(), run.nodes))
    this.api.addEventListener('graphChanged', () => this.idle())
    // The frontend makes a tab's nodes before it says which tab they are in.
    this.app.extensionManager.workflow?.$onAction?.(({ name, after }) => name === 'openWorkflow' && after(() => this.restore()))
  }

  #inOrder(act) {
    return this.turn = Promise.resolve(this.turn).then(act).catch((error) => console.error('Runflow Evaluate:', error))
  }

  /** A prompt: where it was queued, a hash of what each of its nodes depends on, and which of them sent something. */
  #run(prompt) {
    if (!this.runs.has(prompt)) {
      const here = this.#here()
      const answer = this.server.get(`prompts/${prompt}`).catch(() => ({}))
      this.runs.set(prompt, answer.then(({ workflow, nodes = {} }) => ({
        prompt, nodes, sent: new Set(), place: () => (!workflow || workflow === here[0] ? this.#place(here) : workflow)
      })))
    }
    return this.runs.get(prompt)
  }

  #here() {
    return [this.app.rootGraph.id, this.app.extensionManager.workflow?.activeWorkflow]
  }

  /** A tab, by what is the same after a reload. Duplicates share the workflow's id. */
  #place([id, tab] = this.#here()) {
    return `${id} ${tab?.path}`
  }

  nodeCreated(node) {
    if (!WITH_PANEL.has(kind(node))) return
    const panel = new Panel(this.#host(node))
    node.addDOMWidget(PROGRESS_TEXT, 'runflow_verdict', panel.element, {
      serialize: false, hideOnZoom: false, margin: 6, getValue: () => '', setValue: () => {}, getMinHeight: () => panel.height
    }).serialize = false
    this.panels.set(node, panel)
    chain(node, 'onRemoved', () => this.panels.delete(node))
    node.setSize([Math.max(node.size[0], WIDTH), node.computeSize()[1]])
    this.idle()
  }

  /** Show again what each node showed last. A tab that is new to this browser begins with what its workflow had. */
  restore() {
    clearTimeout(this.restoring)
    this.restoring = setTimeout(() => this.#inOrder(async () => {
      const place = this.#place()
      const own = this.memory.last(place)
      const panels = [...this.panels.values()].filter(({ state }) => state.phase !== 'waiting')
      const show = () => {
        this.memory.ran(place, own ?? this.memory.last(this.app.rootGraph.id))
        this.#recall(this.memory.last(place))
      }
      this.restores = true
      this.attempts.clear()
      for (const panel of panels) panel.reset()
      show()
      if (panels.some(({ state }) => state.phase === 'idle')) show(await this.#catchUp())
    }).finally(() => { this.restores = false }))
  }

  /** What ended while no page listened, or in another browser: ComfyUI's history has it, by the workflow's id. */
  async #catchUp() {
    const answer = await this.api.fetchApi('/history?max_items=20')
    const past = answer.ok ? Object.entries(await answer.json()) : []
    for (const [prompt, { outputs, meta, prompt: queued }] of past) {
      if (queued?.[3]?.extra_pnginfo?.workflow?.id !== this.app.rootGraph.id) continue
      const run = await this.#run(prompt)
      this.memory.ran(run.place(), run.nodes)
      for (const [node, output] of Object.entries(outputs)) this.#sent({ node, output, ...meta?.[node] }, run)
    }
  }

  /** Show what is known of these nodes: `{id: identity}`. What is shown already stays opened and scrolled. */
  #recall(nodes, run) {
    for (const [id, identity] of Object.entries(nodes)) {
      const panel = this.panels.get(this.#find(id))
      const phase = panel?.state.phase ?? 'waiting'
      if (phase === 'waiting' || (phase === 'done' && panel.identity === identity)) continue
      const found = this.memory.recall(id, identity)
      if (found) panel.show(found.shown, identity, found.earlier)
      else if (run?.nodes[id] && !run.sent.has(id)) panel.ended(t('panel.elsewhere'), t('panel.elsewhere_line'))
    }
  }

  /** Many events come at once: look once, when they have passed. */
  idle() {
    this.looking ??= setTimeout(() => {
      this.looking = null
      for (const [node, panel] of this.panels) this.#idle(panel, node)
    })
  }

  /** Bring the node that shows this evaluation into view, selected and opened. */
  showNode(evaluationId) {
    const [node, panel] = [...this.panels].find(([, each]) => each.items.some(({ id }) => id === evaluationId)) ?? []
    if (!node) return this.note(t('history.not_shown'), 'info')
    const { canvas } = this.app
    if (node.graph !== canvas.graph) canvas.setGraph(node.graph)
    canvas.centerOnNode(node)
    canvas.selectNode?.(node)
    if (!panel.open) panel.fold(true)
  }

  async #idle(panel, node) {
    const { element } = panel
    if (!node.graph) return
    // Undo makes the nodes anew, and Vue nodes of frontend 1.32 go on showing the panel of the one before.
    if (globalThis.LiteGraph?.vueNodesMode && !element.isConnected && node.graph === this.app.canvas.graph) document.querySelector(`[data-node-id="${CSS.escape(node.id)}"] .rf-panel`)?.replaceWith(element)
    panel.idle(...await price(node, this.server))
  }

  /** Remember what a node sent, or a clone of it; show it where its tab is open. */
  #sent({ node: own, display_node: shownOn, output }, run, here) {
    const { runflow: verdicts, runflow_regenerate: loops } = output ?? {}
    if (!verdicts && !loops) return
    const shown = { verdicts, loop: loops?.[0] }
    const id = String(shownOn ?? own)
    const node = here && this.#find(id)
    // Where Show Verdict came out of ComfyUI's cache, the node that judged sends nothing: it shows the same.
    const judged = kind(node) === 'RunflowShowVerdict' && source(node, 'evaluation')?.node
    const same = this.panels.has(judged) && kind(judged) !== 'RunflowRegenerateEnd' && id.replace(/[^:]*$/, judged.id)
    for (const each of same ? [id, same] : [id]) {
      const identity = run.nodes[each] ?? run.prompt
      run.sent.add(each)
      this.memory.remember(run.place(), each, identity, shown)
      if (here) this.panels.get(this.#find(each))?.show(shown, identity)
    }
  }

  /** A node shows what belongs to this run: one that sent nothing may have run with the same before. */
  #ended(run) {
    this.memory.ran(run.place(), run.nodes)
    this.#settle()
    this.#recall(this.memory.last(run.place()), run)
  }

  /** Clones of a loop's nodes run under ids of their own; this event says which node they are shown on. */
  #running(nodes) {
    for (const { node_id: id, display_node_id: shown = id, state } of Object.values(nodes ?? {})) {
      this.shownOn.set(id, shown)
      const node = this.#find(shown)
      const panel = state === 'running' && this.panels.get(node)
      if (panel && panel.state.phase !== 'waiting') panel.waiting(t('panel.started'), this.#attempt(node))
    }
  }

  #text(id, text) {
    const node = this.#find(this.shownOn.get(id) ?? id)
    if (kind(node) === 'RunflowRegenerateStart') {
      this.attempts.set(node, text.split(' · ')[0])
      for (const to of targets(node, outputIndex(node, 'loop'))) this.panels.get(to.node)?.waiting(text)
    }
    const panel = this.panels.get(node)
    if (panel?.state.phase === 'waiting') panel.waiting(text, this.#attempt(node))
  }

  /** "attempt 2 of 3", where this node judges inside a loop. */
  #attempt(node) {
    const feeds = (node?.outputs ?? []).some((_, slot) => targets(node, slot).some((to) => kind(to.node) === 'RunflowRegenerateEnd'))
    return [...this.attempts].find(([start]) => feeds && start.graph === node.graph)?.[1]
  }

  #failed({ node_id: id, exception_message: message = '' }, run) {
    const failed = this.shownOn.get(id) ?? id
    run.sent.add(failed)
    this.#ended(run)
    this.panels.get(this.#find(failed))?.ended(t('panel.unknown'), message.trim())
  }

  /** The prompt has ended: nothing waits any more. */
  #settle(end = (panel) => panel.reset()) {
    for (const panel of this.panels.values()) if (panel.state.phase === 'waiting') end(panel)
    this.shownOn.clear()
    this.attempts.clear()
  }

  #find(id) {
    return nodeOf(this.app.rootGraph, id)
  }

  #host(node) {
    return {
      thumbnail: (hash) => this.server.thumbnail(hash),
      detail: (id) => this.server.detail(id),
      rate: (id, rating, reason) => this.server.post('feedback', { id, rating, reason }),
      usePrompt: (text) => this.#usePrompt(node, text),
      properties: () => node.properties,
      useAttempt: (...chosen) => this.#useAttempt(node, ...chosen),
      note: (...said) => this.note(...said),
      resized: (by) => this.#resized(node, by)
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

  /** The attempt's prompt and seed into Start. One that did not win becomes the only one, to be made again; it is judged. */
  #useAttempt(end, loop, { prompt, seed, image }, wins) {
    const start = this.#find(loop.start)
    const text = start && textWidget(start)
    if (!text) return this.note(t('notes.no_prompt'), 'warn')
    if (Number(seed) > Number.MAX_SAFE_INTEGER) return this.note(t('loop.too_large', { seed }), 'warn')
    this.change(() => {
      setWidget(text.node, text.widget, prompt)
      setWidget(start, widget(start, 'seed'), Number(seed))
      if (!wins) setWidget(end, widget(end, 'max_attempts'), 1)
      end.properties.runflow_picked = wins ? '' : image // the server notes it in what is saved
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

  /** On the canvas a node has the height it is given, or was saved with; Vue nodes grow and shrink with what they hold. */
  #resized(node, by) {
    if (!node.graph || globalThis.LiteGraph?.vueNodesMode) return
    node.setSize([node.size[0], Math.max(node.computeSize()[1], node.size[1] + (this.restores ? 0 : by))])
    node.setDirtyCanvas(true, true)
  }
}
