/** ComfyUI's editor in a page, as a person uses it: load, run, look at panels; and what the console complained of. */

/** What both frontends say by themselves, without the pack: absent user files, and addresses their CSP blocks. */
const THEIRS = [
  /status of 404 .*\/jobs|JobsApiError|\[Jobs API\]/, // newer frontends on ComfyUI 0.3.75
  /Failed to fetch.*__wbg_init/, // frontend 1.49 reads a data: address, which ComfyUI's CSP forbids
  /status of 404 .*(releases|experiment|features|assets|customers)/,
  /status of 404 .*(user\.css|userdata|favicon\.ico|templates)/,
  /violates the .*Content Security Policy/,
  /Unknown message type runflow-evaluate\.(panel|ask)/, // came before the extensions of a new page were loaded: it then reads what it missed
  /ComfyApp graph accessed before initialization/,
  /reading 'id'\)\s+at onChange .*assets\/index-/
]
/** What a page logs of its requests when it is left before they are answered. */
const CUT_OFF = /Failed to fetch/
const START_MS = 60_000
export const SOON_MS = 30_000

export class Editor {
  /** `prepare(page)` comes before anything is loaded. */
  static async open(context, url, renderer, palette, prepare = null) {
    const editor = new Editor()
    Object.assign(editor, { context, url, renderer, palette, troubles: [], requests: [], language: 'en' })
    editor.page = await context.newPage()
    editor.page.setDefaultTimeout(SOON_MS)
    editor.#listen()
    await prepare?.(editor.page)
    await editor.visit()
    return editor
  }

  /** Open the editor, or open it again, with this renderer. */
  async visit() {
    const wanted = {
      'Comfy.TutorialCompleted': true, 'Comfy.VueNodes.Enabled': this.renderer === 'vue', 'Comfy.ColorPalette': this.palette,
      'Comfy.Locale': this.language, 'Comfy.Minimap.Visible': false, 'Comfy.Workflow.WarnBlueprintOverwrite': false,
      'Comfy.VersionCompatibility.DisableWarnings': true // of packages beside a ComfyUI that is not the one set up
    }
    for (const [name, data] of Object.entries(wanted)) {
      await this.context.request.post(`${this.url}/settings/${name}`, { data: JSON.stringify(data), headers: { 'Content-Type': 'application/json' } })
    }
    const before = this.troubles.length
    await this.page.goto(this.url, { timeout: START_MS, waitUntil: 'domcontentloaded' })
    this.troubles.splice(before, Infinity, ...this.troubles.slice(before).filter((each) => !CUT_OFF.test(each)))
    await this.page.waitForFunction(() => {
      const { graph, canvas, extensionManager } = window.app ?? {}
      const hasFirstWorkflow = extensionManager?.workflow.activeWorkflow // loaded last: it would take the place of a scenario's own
      return graph && canvas && hasFirstWorkflow && document.querySelector('.side-tool-bar-container')
    }, null, { timeout: START_MS })
  }

  /** Open it again: the frontend opens the tab again, as it was noted last. */
  async reload() {
    const count = await this.in(() => {
      window.app.extensionManager.workflow.activeWorkflow.changeTracker.checkState()
      return window.app.graph.nodes.length
    })
    await this.page.waitForTimeout(600) // a draft is kept half a second after a change
    await this.visit()
    await this.page.waitForFunction((all) => window.app.graph.nodes.length === all, count)
  }

  #listen() {
    const complain = (text) => THEIRS.some((theirs) => theirs.test(text.replaceAll('\n', ' '))) || this.troubles.push(text)
    this.page.on('pageerror', (error) => complain(`uncaught: ${error.stack}`))
    this.page.on('console', (message) => message.type() === 'error' && complain(`${message.text()} @ ${message.location().url}`))
    this.page.on('request', (request) => this.requests.push(request.url()))
    this.page.on('dialog', (dialog) => {
      if (dialog.type() === 'beforeunload') return dialog.accept() // a workflow that was not saved
      this.troubles.push(`a dialog: ${dialog.message()}`)
      return dialog.dismiss()
    })
  }

  close() {
    return this.context.close()
  }

  /** End what runs on the server and what waits there: it is nothing to the next scenario. */
  async stop() {
    const options = (data) => ({ data: JSON.stringify(data), headers: { 'Content-Type': 'application/json' } })
    await this.context.request.post(`${this.url}/queue`, options({ clear: true }))
    await this.context.request.post(`${this.url}/interrupt`, options({}))
  }

  in(code, given) {
    return this.page.evaluate(code, given)
  }

  async load(workflow) {
    await this.in((each) => window.app.loadGraphData(each), workflow)
    await this.page.waitForFunction((count) => window.app.graph.nodes.length === count, workflow.nodes.length)
    await this.fit()
  }

  /** At full size, so that a click lands and a picture can be read; at the left that node, else all of them. */
  async fit(id = null, below = 140) {
    await this.in(([wanted, room]) => {
      const { canvas, graph } = window.app
      const nodes = wanted === null ? graph.nodes : [graph.getNodeById(wanted)]
      const [left, top] = [0, 1].map((axis) => Math.min(...nodes.map((node) => node.pos[axis])))
      canvas.ds.scale = 1
      canvas.ds.offset = [90 - left, room - top]
      canvas.setDirty(true, true)
    }, [id, below])
    await this.frames()
  }

  async frames(count = 3) {
    await this.in(async (n) => {
      for (let i = 0; i < n; i++) await new Promise(requestAnimationFrame)
    }, count)
  }

  command(id) {
    return this.in((each) => window.app.extensionManager.command.execute(each), id)
  }

  async run() {
    await this.in(() => window.app.queuePrompt(0, 1))
  }

  /** How the next run ends: asked before it begins. The end of the run before may still be on its way. */
  async ending() {
    await this.in(() => {
      const { api } = window.comfyAPI.api
      window.ended = new Promise((resolve) => {
        let started = null
        api.addEventListener('execution_start', ({ detail }) => { started ??= detail.prompt_id })
        for (const name of ['execution_success', 'execution_error', 'execution_interrupted']) api.addEventListener(name, ({ detail }) => detail.prompt_id === started && resolve(name))
      })
    })
    return { ended: () => this.in(() => window.ended) }
  }

  /** Run, and wait for the end of it, however it ends. */
  async runToTheEnd() {
    const { ended } = await this.ending()
    await this.run()
    return ended()
  }

  undo() {
    return this.in(() => window.app.extensionManager.workflow.activeWorkflow.changeTracker.undo())
  }

  /** The panel on a node. */
  async panel(id) {
    await this.page.waitForFunction((each) => {
      const found = window.app.graph.getNodeById(each)?.widgets?.find((one) => one.element?.classList?.contains('rf-panel'))?.element
      found?.setAttribute('data-test-node', each)
      return found?.isConnected
    }, id)
    return this.page.locator(`[data-test-node="${id}"]`)
  }

  /** A panel that says that outcome: passed, failed, unknown, waiting, idle. */
  async panelThat(id, outcome) {
    const panel = await this.panel(id)
    await this.page.locator(`[data-test-node="${id}"][data-outcome="${outcome}"]`).waitFor({ timeout: SOON_MS, state: 'attached' })
    return panel
  }

  /** What the inspector says of the image that a node shows, opened by the node's own button. */
  async details(id, outcome) {
    const panel = await this.panelThat(id, outcome)
    await panel.getByRole('button', { name: 'Details' }).click()
    const inspector = this.page.locator('.rf-inspector')
    await inspector.getByRole('button', { name: 'Close' }).waitFor()
    return inspector
  }

  widget(id, name, value) {
    return this.in(([node, widget, given]) => {
      const found = window.app.graph.getNodeById(node).widgets.find((each) => each.name === widget)
      if (given !== undefined) found.value = given
      return found.value
    }, [id, name, value])
  }

  nodesOf(type) {
    return this.in((each) => window.app.graph.nodes.filter((node) => node.type === each).map((node) => node.id), type)
  }

  /** Right-click the title of a node. */
  async rightClick(id) {
    if (this.renderer === 'vue') {
      await this.page.locator(`[data-node-id="${id}"]`).first().click({ button: 'right', position: { x: 70, y: 12 }, force: true })
      return
    }
    const [x, y] = await this.in((each) => {
      const { canvas, graph } = window.app
      const node = graph.getNodeById(each)
      const [left, top] = canvas.ds.convertOffsetToCanvas([node.pos[0] + 70, node.pos[1] - 12])
      const box = canvas.canvas.getBoundingClientRect()
      return [left + box.left, top + box.top]
    }, id)
    await this.page.mouse.click(x, y, { button: 'right' })
  }

  serialized() {
    return this.in(() => JSON.stringify(window.app.graph.serialize()))
  }
}

/** Fail with what was found. */
export function expect(condition, message, found) {
  if (!condition) throw new Error(`${message}${found === undefined ? '' : `, found: ${JSON.stringify(found)}`}`)
}
