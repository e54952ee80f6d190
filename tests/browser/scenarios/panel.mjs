/** Whose verdict a panel shows: of what was judged, in the tab where it was queued, after whatever happened. */
import { atRest, Editor, expect, until } from '../editor.mjs'
import { generated, judged, unique } from '../workflows.mjs'

const text = async (panel) => (await panel.innerText()).replaceAll('\n', '|')
/** A panel's text, as soon as it says this and, where it is about what is there now, nothing of being out of date. */
const says = (panel, wanted) => until(() => text(panel), (said) => said.includes(wanted) && !said.includes('out of date'), `it says ${wanted} of what is there`)

/** After a reload, and in a workflow that holds nothing of it. */
export async function survives_a_reload(editor) {
  await editor.load(judged(unique('reloaded')))
  await editor.runToTheEnd()
  await editor.panelThat(2, 'failed')
  const file = await editor.serialized()
  for (const secret of ['six fingers', 'rf_test', '0.41', 'five fingers']) expect(!file.includes(secret), `the workflow holds ${secret}`)
  const values = JSON.parse(file).nodes.find((node) => node.id === 2).widgets_values
  expect(values.length === 7, 'the panel adds no widget value', values)
  await editor.reload()
  await says(await editor.panelThat(3, 'failed'), '0.41')
  await editor.panelThat(2, 'failed')
  const ended = await editor.runToTheEnd()
  expect(ended === 'execution_success', 'it ran again, out of the cache', ended)
  for (const id of [2, 3]) await editor.panelThat(id, 'failed')
}

/** A refresh while it is judged: it still waits, and then shows what came out (N3). */
export async function survives_a_refresh_while_judging(editor) {
  const workflow = judged(unique('refreshed'))
  await editor.load(workflow)
  await editor.run()
  await editor.panelThat(2, 'waiting')
  await editor.reload()
  await editor.panelThat(2, 'waiting')
  editor.judgeNow()
  await editor.panelThat(3, 'passed')
  await says(await editor.panelThat(2, 'passed'), '0.92')
}

/** The same file in a browser that never saw it, and opened again in a new tab. */
export async function is_there_in_another_browser(editor) {
  const workflow = judged(unique('elsewhere'))
  await editor.load(workflow)
  await editor.runToTheEnd()
  await editor.panelThat(3, 'failed')
  const saved = JSON.parse(await editor.serialized())
  await editor.load(judged(unique('between')))
  await editor.panelThat(3, 'idle')
  await editor.load(saved)
  for (const id of [2, 3]) await editor.panelThat(id, 'failed')
  return saved
}

export async function shows_what_another_browser_saw(editor, { workflow, outcome }) {
  await editor.load(workflow)
  await editor.panelThat(3, outcome)
  await says(await editor.panelThat(2, outcome), '0.41')
}

/** Another picture was not judged; the old one was (N4). */
export async function is_about_what_was_judged(editor) {
  await editor.load(judged(unique('judged'), { image: 'coffee.jpg' }))
  await editor.runToTheEnd()
  const panel = await editor.panelThat(3, 'failed')
  await editor.widget(1, 'image', 'chelsea.jpg')
  await editor.note()
  await panel.getByText('out of date', { exact: true }).waitFor()
  await editor.reload()
  await (await editor.panelThat(3, 'failed')).getByText('out of date', { exact: true }).waitFor()
  await editor.widget(1, 'image', 'coffee.jpg')
  await editor.note()
  const again = await editor.panelThat(3, 'failed')
  await again.getByText('out of date', { exact: true }).waitFor({ state: 'detached' })
}

/** A seed that changes by itself after the run does not make what is seen out of date. */
export async function stays_current_with_a_random_seed(editor) {
  await editor.load(generated(unique('random'), { evaluate: true, seed: 5 }))
  await editor.in(() => {
    const seed = window.app.graph.getNodeById(2).widgets.find(({ name }) => name === 'seed')
    seed.linkedWidgets[0].value = 'randomize'
  })
  await editor.runToTheEnd()
  await until(() => editor.widget(2, 'seed'), (seed) => seed !== 5, 'the seed has changed')
  await editor.note()
  const panel = await editor.panelThat(6, 'passed')
  await editor.frames(10)
  await says(panel, '0.92')
}

/** On a server whose cache holds more than the last run: Evaluate sends nothing when its result is in there. */
export async function belongs_to_the_run(editor) {
  await editor.load(generated(unique('cached'), { evaluate: true, seed: 1 }))
  const run = async (seed) => {
    await editor.widget(2, 'seed', seed)
    expect((await editor.runToTheEnd()) === 'execution_success', 'it runs')
  }
  await run(1)
  await editor.panelThat(5, 'failed')
  await run(2)
  await editor.panelThat(5, 'passed')
  await run(1)
  await says(await editor.panelThat(5, 'failed'), '0.41')
  await editor.panelThat(6, 'failed')
}

/** *Clear Workflow* leaves the workflow's id zero on some frontends (N5). */
export async function is_restored_after_clearing(editor) {
  await editor.in(() => window.app.graph.clear())
  await editor.in((file) => {
    const { graph } = window.app
    const [load, judge, show] = ['LoadImage', 'RunflowEvaluateImage', 'RunflowShowVerdict'].map((type) => window.LiteGraph.createNode(type))
    for (const each of [load, judge, show]) graph.add(each)
    load.widgets[0].value = file
    load.connect(0, judge, 0)
    judge.connect(4, show, 0)
    judge.widgets.find(({ name }) => name === 'generation_prompt').value = `cleared ${Math.random()}`
  }, 'coffee.jpg')
  await editor.note()
  await editor.runToTheEnd()
  const [show] = await editor.nodesOf('RunflowShowVerdict')
  await editor.panelThat(show, 'failed')
  const saved = JSON.parse(await editor.serialized())
  expect(/[1-9a-f]/.test(saved.id), 'it has an id', saved.id)
  await editor.load(judged(unique('between')))
  await editor.load(saved)
  await editor.panelThat(show, 'failed')
}

async function loop(editor) {
  await editor.load(generated(unique('a loop')))
  await editor.in(() => {
    window.app.canvas.selectNode(window.app.graph.getNodeById(2))
    return window.app.extensionManager.command.execute('RunflowEvaluate.Regenerate')
  })
  const [end] = await until(() => editor.nodesOf('RunflowRegenerateEnd'), (found) => found.length > 0, 'the loop is there')
  await editor.fit(end)
  return end
}

let sent = 0
/** What the server says of a node, as `nodes/_shown.py` does. */
const send = (editor, id, more) => editor.in(([node, state]) => {
  const { api } = window.comfyAPI.api
  const detail = {
    workflow: window.app.graph.id, prompt: '', node, identity: `sent ${state.n}`, phase: 'done', at: Date.now() / 1000 + state.n,
    made_from: '', code: '', message: '', numbers: {}, min_score: 0, verdicts: [], loop: null, ...state.more
  }
  api.dispatchEvent(new CustomEvent('runflow-evaluate.panel', { detail }))
}, [String(id), { n: ++sent, more }])

const verdict = (id, outcome, more = {}) => ({ id, image: '', judge: 'runflow', verdict: outcome, passed: outcome === 'passed', score: 0.5, issues: [], cost: '0.10', seconds: 3, ...more })

/** As `nodes/regenerate/attempts.py` sends it. */
const attempt = (number, outcome, members, more = {}) => ({
  attempt: number, prompt: `prompt ${number}`, seed: number, seed_digits: String(number), verdict: outcome, passed: outcome === 'passed', score: 0.5, issues: [],
  images: members.map(({ image }) => image), evaluation_ids: members.map(({ id }) => id), cost: '0.20', members, ...more
})

export async function shows_a_loop_of_batches(editor) {
  editor.excuse(/\/history\//) // the journal has none of these
  const end = await loop(editor)
  const [failed, passed] = [verdict('e1', 'failed'), verdict('e2', 'passed')]
  const winners = [verdict('w1', 'passed'), verdict('w2', 'passed')]
  const attempts = [attempt(1, 'failed', [failed, passed], { issues: ['image 1: grey'] }), attempt(2, 'passed', winners)]
  await send(editor, end, { verdicts: winners, loop: { attempts, winner: 2, start: '', reason: 'passed', warnings: [] } })
  const panel = await editor.panelThat(end, 'passed')
  await until(() => text(panel), (said) => said.includes('0.40 credits'), 'what all attempts cost')
  const images = panel.getByRole('listbox', { name: 'Attempts' }).getByRole('option')
  await until(() => images.count(), (count) => count === 4, 'two images in two attempts')
  const inspector = editor.page.locator('.rf-inspector')
  for (const [index, id, said] of [[0, 'e1', 'Attempt 1 of 2'], [3, 'w2', 'Attempt 2 of 2 came out']]) {
    await images.nth(index).click()
    await inspector.locator(`code[title="${id}"]`).first().waitFor()
    await inspector.getByText(said, { exact: true }).first().waitFor()
    await inspector.getByText(/^No more details/).first().waitFor()
    await until(() => inspector.locator('.rf-foot').innerText(), (said) => said.includes('0.10 credits'), 'and each on its own')
  }
  await editor.page.keyboard.press('Escape')
  await send(editor, end, { verdicts: [], loop: { attempts: [attempt(1, 'unknown', [], { cost: '' })], winner: 1, start: '', reason: 'not judged', warnings: [] } })
  const unjudged = await editor.panelThat(end, 'unknown')
  await until(() => text(unjudged), (said) => said.includes('Not judged'), 'a loop without a judge says so')
}

/** What is selected in a strip can be seen there. */
async function isInSight(root, what) {
  const find = () => root.locator('.rf-strip').evaluate((list) => {
    const [outer, inner] = [list, list.querySelector('[aria-selected="true"]')].map((each) => each.getBoundingClientRect())
    return { scrolled: list.scrollLeft, isIn: inner.left >= outer.left && inner.right <= outer.right }
  })
  await until(find, ({ scrolled, isIn }) => scrolled > 0 && isIn, `${what} is in sight`)
}

/** The attempt that came out of 64 is in sight, on the node and in the inspector; the wheel goes along the strip. */
export async function holds_many_attempts(editor) {
  const end = await loop(editor)
  const winners = [verdict('', 'passed')]
  const attempts = Array.from({ length: 64 }, (_, n) => attempt(n + 1, n === 11 ? 'passed' : 'failed', n === 11 ? winners : [verdict('', 'failed')]))
  await send(editor, end, { verdicts: winners, loop: { attempts, winner: 12, start: '', reason: 'passed', warnings: [] } })
  const panel = await editor.panelThat(end, 'passed')
  await isInSight(panel, 'the winner')
  const strip = panel.locator('.rf-strip')
  const before = await strip.evaluate((each) => each.scrollLeft)
  const zoom = await editor.in(() => window.app.canvas.ds.scale)
  await strip.hover()
  await editor.page.mouse.wheel(0, 200)
  await until(() => strip.evaluate((each) => each.scrollLeft), (now) => now > before, 'the wheel goes along the strip')
  expect((await editor.in(() => window.app.canvas.ds.scale)) === zoom, 'and does not zoom')
  const inspector = await editor.details(end, 'passed')
  await isInSight(inspector, 'the winner in the inspector')
  await inspector.getByText('Judges by attempt', { exact: true }).first().click()
  const spilt = () => inspector.locator('.rf-inside').evaluate((each) => each.scrollWidth - each.clientWidth)
  await until(spilt, (width) => width <= 0, 'the matrix scrolls by itself')
  await editor.page.keyboard.press('Escape')
}

/** 64 images, 40 judges, issues of 2,000 characters: nothing overflows, and what matters is near (N7). */
export async function holds_very_much(editor) {
  await editor.load(judged(unique('much')))
  const panel = await editor.panelThat(3, 'idle')
  const box = () => panel.evaluate((each) => [each.offsetHeight, each.offsetWidth, each.scrollHeight - each.clientHeight].join())
  const before = await atRest(editor, box)
  const judges = Array.from({ length: 40 }, (_, n) => ({ name: `judge ${n}`, passed: n % 2 > 0, reasoning: 'r'.repeat(2000), issues: [`issue ${n} ${'x'.repeat(2000)}`] }))
  const images = Array.from({ length: 64 }, (_, n) => verdict('', n === 50 ? 'failed' : 'passed', { issues: ['word '.repeat(400), 'y'.repeat(2000)], judges, improved_prompt: 'better '.repeat(200) }))
  await send(editor, 3, { verdicts: images })
  await editor.panelThat(3, 'failed')
  const after = await atRest(editor, box)
  expect(after === before, 'the panel keeps its size, and nothing spills', [before, after])
  await isInSight(panel, 'the image that did worst')
  const inspector = await editor.details(3, 'failed')
  const where = () => inspector.evaluate((root) => {
    const inside = root.querySelector('.rf-inside')
    const judge = inside.querySelector('.rf-judge')
    return { spilt: inside.scrollWidth - inside.clientWidth, high: root.offsetHeight <= window.innerHeight, closed: !judge.open, wheel: root.hasAttribute('popover') }
  })
  await until(where, (found) => found.spilt <= 0 && found.high && found.closed, 'it fits, judges are closed')
  const scale = () => editor.in(() => window.app.canvas.ds.scale)
  const zoom = await scale()
  await inspector.locator('.rf-inside').hover()
  await editor.page.mouse.wheel(0, 400)
  await until(() => inspector.locator('.rf-inside').evaluate((each) => each.scrollTop), (top) => top > 0, 'it scrolls')
  expect((await scale()) === zoom, 'the wheel scrolls it and does not zoom the canvas', await scale())
  await inspector.getByRole('button', { name: 'Close' }).press('Escape')
}

/** While it is judged, second by second: an opened judge, a selection, a half-typed reason stay (U1). */
export async function keeps_what_a_person_does(editor) {
  await editor.load(judged(unique('typed')))
  await editor.runToTheEnd()
  const inspector = await editor.details(3, 'passed')
  await inspector.getByRole('button', { name: 'No, the verdict is wrong' }).click()
  const reason = inspector.getByRole('textbox', { name: 'Why? (sent to Runflow)' })
  await reason.pressSequentially('because the ha')
  await reason.evaluate((each) => each.setSelectionRange(3, 7))
  await inspector.locator('summary').first().click()
  await reason.focus()
  for (let round = 0; round < 4; round++) {
    for (const id of [2, 3]) await send(editor, id, { phase: 'waiting', prompt: 'p', code: 'judging', numbers: { elapsed: round, judged: 0, of: 2 } })
    await editor.in(() => window.comfyAPI.api.api.dispatchCustomEvent('graphChanged'))
    await editor.frames()
  }
  const kept = await reason.evaluate((each) => [each.value, each.selectionStart, each.selectionEnd, document.activeElement === each].join())
  expect(kept === 'because the ha,3,7,true', 'what was typed, and where', kept)
  expect(await inspector.locator('.rf-judge').first().evaluate((each) => each.open), 'the judge is still open')
  expect((await text(inspector)).includes('Passed'), 'and what is read is the verdict that there is')
  await editor.page.keyboard.press('Escape')
}

/** Copying text of the panel copies no node, and pasting into the pack's fields pastes none (U6). */
export async function keeps_its_events(editor) {
  await editor.load(judged(unique('copied')))
  await editor.runToTheEnd()
  const inspector = await editor.details(3, 'failed')
  const copied = await editor.in(() => {
    const line = document.querySelector('.rf-inspector .rf-wrong li')
    const seen = []
    document.addEventListener('copy', () => seen.push('copy'), { once: true })
    window.addEventListener('keydown', () => seen.push('key'), { once: true })
    line.dispatchEvent(new ClipboardEvent('copy', { bubbles: true, clipboardData: new DataTransfer() }))
    line.dispatchEvent(new KeyboardEvent('keydown', { key: 'c', ctrlKey: true, bubbles: true }))
    return seen
  })
  expect(copied.length === 0, 'the editor hears nothing of it', copied)
  const count = () => editor.in(() => window.app.graph.nodes.length)
  const before = await count()
  await inspector.getByRole('button', { name: 'No, the verdict is wrong' }).click()
  const field = inspector.getByRole('textbox')
  await field.focus()
  await field.evaluate((each) => each.dispatchEvent(new ClipboardEvent('paste', { bubbles: true, clipboardData: new DataTransfer() })))
  await field.press('Delete')
  expect((await count()) === before, 'nor of a paste or Delete in a field', await count())
  await editor.page.keyboard.press('Escape')
}

/** Twenty times undo, with Evaluate in a subgraph: no panel and no request more than before (L1). */
export async function leaks_nothing_at_undo(editor) {
  editor.excuse(/cleanup event listeners/) // frontend 1.32's own
  const read = editor.page.waitForResponse(/runflow-evaluate\/panels\?workflow/)
  await editor.load(judged(unique('undone')))
  await read
  await editor.in(() => {
    const { graph, extensionManager } = window.app
    graph.convertToSubgraph(new Set([2, 3].map((id) => graph.getNodeById(id))))
    extensionManager.workflow.activeWorkflow.changeTracker.checkState()
  })
  const made = () => editor.in(() => window.runflowPanels?.() ?? document.querySelectorAll('.rf-panel').length)
  const before = await atRest(editor, made)
  editor.requests.length = 0
  for (let round = 0; round < 20; round++) {
    await editor.in(() => {
      const { graph, extensionManager } = window.app
      graph.add(window.LiteGraph.createNode('Note'))
      extensionManager.workflow.activeWorkflow.changeTracker.checkState()
    })
    await editor.undo()
  }
  await until(made, (count) => count <= before, `no panel more than ${before}`)
  await editor.idle()
  const asked = editor.requests.filter((each) => each.includes('runflow'))
  expect(asked.length === 0, 'no request more', asked)
}

/** Texts and style that cannot be read leave the panels working (S1); a route that hangs does too (M5). */
export async function goes_on_without_texts(editor) {
  const { context, url, renderer, palette } = editor
  const without = await Editor.open(context, url, renderer, palette, async (page) => {
    const devtools = await context.newCDPSession(page) // a route of Playwright's would hold up every request
    devtools.on('Fetch.requestPaused', ({ requestId, request }) => {
      if (request.url.includes('status')) return // never answers
      devtools.send('Fetch.failRequest', { requestId, errorReason: 'Failed' }).catch(() => {})
    })
    const patterns = ['*/i18n', '*/runflow.css', '*/runflow-evaluate/status*'].map((urlPattern) => ({ urlPattern }))
    await devtools.send('Fetch.enable', { patterns })
  })
  await without.load(judged(unique('textless')))
  await without.runToTheEnd()
  await says(await without.panelThat(3, 'failed'), '0.41')
  await without.page.close()
}

/** ComfyUI is started again while it judges: the page says so and goes on (U4). */
export async function waits_for_a_server(editor) {
  await editor.load(judged(unique('restarted')))
  await editor.run()
  await editor.panelThat(2, 'waiting')
}

export async function says_that_the_server_was_restarted(editor) {
  editor.excuse(/ERR_|Failed to fetch|NetworkError|WebSocket|status of 5/) // of the time without a server
  const panel = await editor.panelThat(2, 'stopped')
  await panel.getByText('ComfyUI was restarted').waitFor()
  editor.troubles.length = 0 // and what came of it
  editor.judgeNow()
  await editor.runToTheEnd()
  await editor.panelThat(3, 'failed')
}

/** Far away and collapsed, what came out can still be told (N6). */
export async function can_be_told_from_far_away(editor) {
  await editor.load(judged(unique('far')))
  await editor.runToTheEnd()
  const panel = await editor.panelThat(3, 'failed')
  await editor.in(() => {
    window.app.canvas.ds.scale = 0.35
    window.app.canvas.setDirty(true, true)
  })
  await editor.page.mouse.move(700, 700)
  await editor.page.mouse.wheel(0, 1)
  await editor.page.waitForFunction(() => document.documentElement.hasAttribute('data-rf-far'))
  const sizes = () => panel.evaluate((each) => ['.rf-pill', '.rf-score'].map((part) => each.querySelector(part).getBoundingClientRect().height))
  await until(sizes, (found) => Math.min(...found) >= 10, 'outcome and score are readable')
  await editor.fit()
  const collapse = () => editor.in(() => [2, 3].forEach((id) => void window.app.graph.getNodeById(id).collapse()))
  await collapse()
  await editor.frames(5)
  await saysInABadge(editor, 3, '✕ 0.41 · 0.10 credits per image')
  await collapse()
  await saysInABadge(editor, 3, '')
  await editor.in(() => {
    const { graph } = window.app
    graph.convertToSubgraph(new Set([2, 3].map((id) => graph.getNodeById(id))))
    window.comfyAPI.api.api.dispatchCustomEvent('graphChanged')
  })
  const host = await editor.in(() => window.app.graph.nodes.find((node) => node.subgraph).id)
  await saysInABadge(editor, host, '○ 0.10 credits per image')
}

/** The badge of a node as it is drawn: on the canvas, or above the node's element. */
function saysInABadge(editor, id, wanted) {
  return editor.page.waitForFunction(([node, text, isVue]) => {
    const header = document.querySelector(`[data-node-id="${node}"] .lg-node-header`)
    const drawn = window.app.graph.getNodeById(node).badges.map((each) => (typeof each === 'function' ? each() : each).text)
    const content = header && getComputedStyle(header, '::after').content
    const ours = drawn.filter((each) => each && /^[✓✕○]/.test(each))
    return isVue ? content === (text ? JSON.stringify(text) : 'none') : ours.join() === text
  }, [id, wanted, editor.renderer === 'vue'])
}
