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
/** A request of the frontend's own that was not answered, or not in time. */
const THEIR_REQUEST = /Failed to load resource|net::ERR_|Failed to fetch|NetworkError/
/** Long enough for a machine that has much else to do: these end a hang, and measure nothing. */
const START_MS = 300_000
export const SOON_MS = 90_000
const LOOK_MS = 50
const TIDY_MS = 10_000

/** In the page, before anything else. */
function holdDrawing() {
  const draw = window.requestAnimationFrame.bind(window)
  let held = null
  window.requestAnimationFrame = (callback) => (held ? held.push(callback) : draw(callback))
  window.holdsDrawing = (holds) => {
    const waiting = held ?? []
    held = holds ? waiting : null
    if (!holds) waiting.forEach(draw)
  }
}

export class Editor {
  /** `prepare(page)` comes before anything is loaded. */
  static async open(context, url, renderer, palette, prepare = null) {
    const editor = new Editor()
    Object.assign(editor, { context, url, renderer, palette, troubles: [], excuses: [], requests: [], language: 'en' })
    editor.page = await context.newPage()
    editor.page.setDefaultTimeout(SOON_MS)
    editor.#listen()
    await editor.page.addInitScript(holdDrawing)
    await prepare?.(editor.page)
    await editor.visit()
    return editor
  }

  /** Another page is used now: this one draws nothing until it is. Sixty empty pictures a second would take a twentieth of a processor. */
  rest() {
    return this.in(() => window.holdsDrawing(true))
  }

  wake() {
    return this.in(() => window.holdsDrawing(false))
  }

  /** Open the editor, or open it again, with this renderer. */
  async visit() {
    const wanted = {
      'Comfy.TutorialCompleted': true, 'Comfy.VueNodes.Enabled': this.renderer === 'vue', 'Comfy.ColorPalette': this.palette,
      'Comfy.Locale': this.language, 'Comfy.Minimap.Visible': false, 'Comfy.Workflow.WarnBlueprintOverwrite': false,
      'Comfy.VersionCompatibility.DisableWarnings': true // of packages beside a ComfyUI that is not the one set up
    }
    for (const [name, data] of Object.entries(wanted)) {
      await this.context.request.post(`${this.url}/settings/${name}`, { data: JSON.stringify(data), headers: { 'Content-Type': 'application/json' }, timeout: START_MS })
    }
    const before = this.troubles.length
    await this.page.goto(this.url, { timeout: START_MS, waitUntil: 'domcontentloaded' })
    this.troubles.splice(before, Infinity, ...this.troubles.slice(before).filter((each) => !CUT_OFF.test(each)))
    await this.page.waitForFunction(() => {
      const { graph, canvas, extensionManager } = window.app ?? {}
      const hasFirstWorkflow = extensionManager?.workflow.activeWorkflow // loaded last: it would take the place of a scenario's own
      const isStarting = extensionManager?.spinner // newer frontends: until the tabs are there again
      return graph && canvas && hasFirstWorkflow && !isStarting && document.querySelector('.side-tool-bar-container')
    }, null, { timeout: START_MS })
    await this.idle()
  }

  /** When the page has nothing to do but to wait for answers. */
  idle() {
    return this.in((most) => new Promise((go) => requestIdleCallback(go, { timeout: most })), SOON_MS)
  }

  /** Let the frontend note what has changed, as it does when a person lets go of the mouse. */
  note() {
    return this.in(() => window.app.extensionManager.workflow.activeWorkflow.changeTracker.checkState())
  }

  /** Open it again, as soon as the frontend keeps the tab as it is: it opens what it kept last. */
  async reload() {
    await this.note()
    const kept = await this.page.waitForFunction(() => {
      const held = ({ nodes }) => JSON.stringify(nodes.map(({ id, type, widgets_values }) => [id, type, widgets_values]))
      const now = held(window.app.graph.serialize())
      const read = (text) => {
        try {
          const found = JSON.parse(text)
          return typeof found?.data === 'string' ? JSON.parse(found.data) : found
        } catch {
          return null
        }
      }
      const stored = [sessionStorage, localStorage].flatMap((each) => Object.values({ ...each }).map(read))
      const drafts = stored.flatMap((each) => [each, ...Object.values(each ?? {}).map((one) => read(one?.data))])
      return drafts.some((each) => Array.isArray(each?.nodes) && held(each) === now) && JSON.stringify(window.app.graph.nodes.map(({ id }) => id).sort())
    })
    const ids = await kept.jsonValue()
    await this.visit()
    await this.page.waitForFunction((all) => JSON.stringify(window.app.graph.nodes.map(({ id }) => id).sort()) === all, ids)
  }

  /**
   * Whether a scenario finds the page as it may expect it: what the one before left open, or what came after its end,
   * is closed. Where that does not help, the page is not used again.
   */
  async tidy() {
    const isClear = async () => {
      await this.closeToasts()
      await this.in(async () => {
        const { sidebarTab } = window.app.extensionManager
        if (sidebarTab.activeSidebarTabId) sidebarTab.toggleSidebarTab(sidebarTab.activeSidebarTabId)
        const inspector = document.querySelector('.rf-inspector:not([hidden]) [data-focus="close"]')
        inspector?.click()
        window.LiteGraph.closeAllContextMenus?.(window)
      })
      const dialogs = await this.page.locator('[role=dialog]:visible').count()
      if (dialogs) await this.page.keyboard.press('Escape')
      return !dialogs && !(await this.page.locator('.rf-page:visible, .p-toast-message:visible').count())
    }
    try {
      await until(isClear, Boolean, 'the page is clear', TIDY_MS)
      return true
    } catch {
      return false
    }
  }

  /** What ComfyUI says in its corner; only older frontends give extensions a way to do that. */
  closeToasts() {
    return this.in(() => {
      window.app.extensionManager.toast.removeAll?.()
      for (const button of document.querySelectorAll('.p-toast-close-button')) button.click()
    })
  }

  /** What the console may say in this scenario, also when it says it late. */
  excuse(...patterns) {
    this.excuses.push(...patterns)
  }

  /** What the console complained of that nobody excuses. */
  complaints() {
    return this.troubles.filter((each) => !this.excuses.some((pattern) => pattern.test(each)))
  }

  #listen() {
    const complain = (text) => THEIRS.some((theirs) => theirs.test(text.replaceAll('\n', ' '))) || this.troubles.push(text)
    this.page.on('pageerror', (error) => complain(`uncaught: ${error.stack}`))
    this.page.on('console', (message) => {
      const text = `${message.text()} @ ${message.location().url}`
      const isTheirs = THEIR_REQUEST.test(text) && !/runflow/i.test(text)
      if (message.type() === 'error' && !isTheirs) complain(text)
    })
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

/** Wait until what is found holds; fail with what was found last. A busy machine is late, and not wrong. */
export async function until(find, holds, message, within = SOON_MS) {
  const end = Date.now() + within
  for (;;) {
    const found = await find()
    if (holds(found)) return found
    if (Date.now() > end) throw new Error(`${message}, found: ${JSON.stringify(found)}`)
    await new Promise((go) => setTimeout(go, LOOK_MS))
  }
}

/** What is found twice in a row, some pictures apart: what is drawn has come to rest. */
export async function atRest(editor, find) {
  let before
  return until(async () => {
    const [last, now] = [before, JSON.stringify(await find())]
    before = now
    await editor.frames(10)
    return [last, now]
  }, ([last, now]) => last === now, 'it comes to rest').then(([now]) => JSON.parse(now))
}

/** Fail with what was found. */
export function expect(condition, message, found) {
  if (!condition) throw new Error(`${message}${found === undefined ? '' : `, found: ${JSON.stringify(found)}`}`)
}
