/** A verdict on its node: before, while and after it is judged. */
import { atRest, expect, until } from '../editor.mjs'
import { generated, judged, unique } from '../workflows.mjs'

const text = async (panel) => (await panel.innerText()).replaceAll('\n', '|')
const says = (panel, ...wanted) => until(() => text(panel), (said) => wanted.every((each) => said.includes(each)), `it says ${wanted.join(', ')}`)
const height = async (panel) => Math.round((await panel.boundingBox()).height)
const width = async (panel) => Math.round((await panel.boundingBox()).width)

/** The first scenario on every frontend: the panel is there before, while and after a run (N1). */
export async function waits_and_shows(editor) {
  await editor.load(judged(unique('a cup')))
  const [line, panel] = [await editor.panelThat(2, 'idle'), await editor.panelThat(3, 'idle')]
  await line.getByText('0.10 credits per image').first().waitFor()
  const heights = async () => [await height(line), await height(panel)]
  const before = await atRest(editor, heights)
  const { ended } = await editor.ending()
  await editor.run()
  const waiting = await editor.panelThat(2, 'waiting')
  await waiting.getByRole('button', { name: 'Cancel' }).waitFor()
  const own = await editor.in(() => window.app.graph.getNodeById(2).widgets.map((each) => each.name))
  expect(own.filter((each) => each.includes('preview')).length === 0, 'nothing says the same in English', own)
  editor.judgeNow()
  await ended()
  await editor.frames() // a finished job clears the frontend's own widgets
  for (const id of [2, 3]) await editor.panelThat(id, 'failed')
  await says(panel, '0.41', '0.10 credits', 'six fingers', 'the cup floats')
  const after = await atRest(editor, heights)
  expect(`${before}` === `${after}`, 'nothing jumps', [before, after])
  await until(() => panel.getByRole('meter').getAttribute('aria-valuenow'), (now) => now === '0.41', 'the bar says the score')
  const elsewhere = () => editor.in(() => `${window.app.nodeOutputs[3]?.text}`)
  await until(elsewhere, (said) => said.includes('failed · 0.41'), 'App mode and the Jobs panel have it as text (N8)')
  await reads_all_of_it(editor)
}

async function reads_all_of_it(editor) {
  const steps = () => editor.in(() => {
    const { changeTracker } = window.app.extensionManager.workflow.activeWorkflow
    return [changeTracker.undoQueue.length, window.app.graph.getNodeById(3).size[1]].join()
  })
  await editor.note() // what has changed until now is a step of its own
  const before = await atRest(editor, steps)
  const inspector = await editor.details(3, 'failed')
  await inspector.getByText('anatomy', { exact: true }).first().waitFor()
  const opened = () => inspector.evaluate((each) => each.textContent)
  const wanted = ['six fingers', 'a bent wrist', 'left hand, lower right', 'two faces', 'soft natural light', 'hand with five fingers']
  await until(opened, (said) => wanted.every((each) => said.includes(each)), `${wanted} are shown`)
  await inspector.getByRole('button', { name: 'Close' }).press('Escape')
  await inspector.waitFor({ state: 'hidden' })
  await until(() => editor.in(() => document.activeElement.textContent), (focused) => focused === 'Details', 'the focus goes back to what opened it')
  expect((await steps()) === before, 'opening it changes no node and adds no undo step', [before, await steps()])
}

export async function says_why_it_will_not_run(editor) {
  await editor.load(judged('alone', { shows: false }))
  const panel = await editor.panel(2)
  await panel.getByText('Will not run: nothing that saves or shows reads it. Add Show Verdict.').first().waitFor()
  await panel.getByRole('button', { name: 'Add Show Verdict' }).click()
  await editor.page.waitForFunction(() => window.app.graph.nodes.some((node) => node.type === 'RunflowShowVerdict'))
  await panel.getByText('0.10 credits per image').first().waitFor()
  await editor.load(judged('local', { judge: 'local' }))
  await (await editor.panel(2)).getByText('Free: checks pixels on this machine, not content').first().waitFor()
}

export async function rates(editor, { steps }) {
  await editor.load(judged(unique('rated')))
  await editor.runToTheEnd()
  const inspector = await editor.details(3, 'passed')
  const id = () => inspector.locator('.rf-foot code').textContent()
  const good = inspector.getByRole('button', { name: 'Yes, the verdict is right' })
  const focused = () => editor.in(() => document.activeElement.getAttribute('aria-label'))
  const isFocused = (label, message) => until(focused, (now) => now === label, message)
  await good.press('Enter')
  await inspector.locator('[aria-label="Yes, the verdict is right"][aria-pressed="true"]').first().waitFor()
  await isFocused('Yes, the verdict is right', 'the keyboard stays where it was')
  if (steps === 'good') return id()
  await inspector.getByRole('button', { name: 'No, the verdict is wrong' }).click()
  await inspector.getByRole('textbox', { name: 'Why? (sent to Runflow)' }).fill('the hand is fine')
  await inspector.getByRole('button', { name: 'Send' }).press('Enter')
  await inspector.locator('[aria-label="No, the verdict is wrong"][aria-pressed="true"]').first().waitFor()
  await isFocused('No, the verdict is wrong', 'what goes away gives the focus to a thumb')
  await inspector.getByText('Rated wrong: the hand is fine').first().waitFor()
  if (steps === 'bad') return id()
  await inspector.getByRole('button', { name: 'Take it back' }).press('Enter')
  await inspector.getByRole('button', { name: 'Take it back' }).waitFor({ state: 'detached' })
  await isFocused('Yes, the verdict is right', 'and so does this')
  return id()
}

export async function uses_the_improved_prompt(editor) {
  const prompt = unique('a hand')
  await editor.load(generated(prompt, { evaluate: true }))
  await editor.runToTheEnd()
  const inspector = await editor.details(6, 'failed')
  await inspector.getByRole('button', { name: 'Use it' }).click()
  await editor.page.waitForFunction(() => window.app.graph.getNodeById(1).widgets[0].value === 'a hand with five fingers')
  const panel = await editor.panelThat(6, 'failed')
  await panel.getByText('out of date', { exact: true }).waitFor()
  await inspector.locator('.rf-said').waitFor() // ComfyUI's own note may be below the inspector
  await inspector.getByRole('button', { name: 'Close' }).click()
  await editor.note()
  await editor.undo()
  await editor.page.waitForFunction((before) => window.app.graph.getNodeById(1).widgets[0].value === before, prompt)
  const again = await editor.panelThat(6, 'failed')
  await again.getByText('out of date', { exact: true }).waitFor({ state: 'detached' })
}

export async function keeps_injected_script_as_text(editor) {
  await editor.load(judged(unique('<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>')))
  await editor.runToTheEnd()
  const inspector = await editor.details(3, 'failed')
  await inspector.getByText('<b>judge</b>').first().waitFor()
  await inspector.locator('.rf-prompt').first().waitFor()
  const made = await editor.page.locator(':is(.rf-panel, .rf-inspector) :is(b, script, img[src="x"], iframe)').count()
  expect(made === 0, 'markup stays text', made)
  expect((await editor.in(() => window.hacked)) === undefined, 'nothing ran')
}

export async function shows_a_batch(editor) {
  await editor.load(generated(unique('a batch'), { evaluate: true, batch: 3 }))
  await editor.runToTheEnd()
  const panel = await editor.panelThat(6, 'failed')
  await panel.locator('.rf-pill', { hasText: '2 of 3 passed' }).waitFor()
  await panel.getByText('lowest of 3').first().waitFor()
  const images = panel.getByRole('listbox', { name: 'Images' }).getByRole('option')
  await until(() => images.count(), (count) => count === 3, 'one for each image')
  await editor.page.waitForFunction((node) => [...document.querySelectorAll(`[data-test-node="${node}"] .rf-strip img`)].filter((each) => each.naturalWidth > 0).length === 3, 6)
  await images.nth(0).click()
  const inspector = editor.page.locator('.rf-inspector')
  await inspector.getByText('Image 1 of 3', { exact: true }).first().waitFor()
  await inspector.getByRole('option').first().press('ArrowRight')
  await inspector.getByText('Image 2 of 3', { exact: true }).first().waitFor()
  const marked = () => panel.locator('[aria-selected="true"]').evaluate((each) => [each.dataset.index, getComputedStyle(each).boxShadow])
  await until(marked, ([index, shadow]) => index === '1' && shadow !== 'none', 'the panel marks the same image, where it can be seen')
  await inspector.getByRole('button', { name: 'Close' }).click()
}

/** Right-to-left texts of others in a left-to-right page. */
export async function reads_in_its_own_direction(editor) {
  await editor.load(judged(unique('direction')))
  await editor.runToTheEnd()
  const inspector = await editor.details(3, 'failed')
  const item = inspector.locator('.rf-wrong li').first()
  await item.waitFor()
  const edges = () => item.evaluate((each) => {
    const range = document.createRange()
    range.selectNodeContents(each)
    return [range, each].map((one) => one.getBoundingClientRect().right)
  })
  await until(edges, ([words, box]) => Math.abs(words - box) < 3, 'it begins at the right')
  await editor.page.keyboard.press('Escape')
}

/** What went wrong stays, also when undo makes the nodes anew (U3). */
export async function says_what_went_wrong(editor, { code }) {
  await editor.load(judged(unique('refused')))
  await editor.runToTheEnd()
  await says(await editor.panelThat(2, 'stopped'), `[${code}]`)
  await addsAndUndoes(editor)
  await says(await editor.panelThat(2, 'stopped'), `[${code}]`)
}

/** A change, and undo, which makes the nodes anew. */
async function addsAndUndoes(editor) {
  await editor.in(() => {
    const { graph, extensionManager } = window.app
    graph.add(window.LiteGraph.createNode('Note'))
    extensionManager.workflow.activeWorkflow.changeTracker.checkState()
  })
  await editor.undo()
}

export async function says_that_it_was_cancelled(editor) {
  await editor.load(judged(unique('cancelled')))
  const { ended } = await editor.ending()
  await editor.run()
  const panel = await editor.panelThat(2, 'waiting')
  await panel.getByRole('button', { name: 'Cancel' }).click()
  expect((await ended()) === 'execution_interrupted', 'it ends')
  await says(await editor.panelThat(2, 'stopped'), 'Cancelled')
  await addsAndUndoes(editor)
  await says(await editor.panelThat(2, 'stopped'), 'Cancelled')
}

export async function shows_local_checks(editor) {
  await editor.load(judged(unique('local'), { judge: 'local', image: 'chelsea_underexposed.jpg' }))
  await editor.runToTheEnd()
  const panel = await editor.panelThat(3, 'failed')
  await says(panel, 'local · pixels only')
  const note = 'only pixels checked, content not judged (local judge)'
  await until(() => panel.locator('.rf-note').first().innerText(), (said) => said.includes(note), 'how it was judged stands apart from what is wrong')
  const inspector = await editor.details(3, 'failed')
  await inspector.locator('section', { hasText: 'How it was judged' }).getByText(note, { exact: true }).waitFor()
  await inspector.getByText(/^Pixel checks \(\d of \d+ failed\)$/).first().waitFor()
  await inspector.getByText('noise', { exact: true }).first().click()
  await inspector.getByText(/noise of the quiet areas/).first().waitFor()
  const all = await inspector.innerText()
  for (const absent of ['credits', 'Is this verdict right']) expect(!all.includes(absent), `it does not say ${absent}`, all)
  await editor.page.keyboard.press('Escape')
}

export async function says_that_the_judge_is_off(editor) {
  await editor.load(judged(unique('off'), { judge: 'off' }))
  await editor.runToTheEnd()
  const panel = await editor.panelThat(3, 'unknown')
  await panel.getByText('Judge is off: everything passes, nothing is paid', { exact: true }).first().waitFor()
  await until(() => panel.getByRole('button').count(), (count) => count === 0, 'there is nothing to open')
}

export async function keeps_the_nodes_width(editor) {
  await editor.load(judged(unique('endless')))
  const idle = await editor.panelThat(3, 'idle')
  const before = await atRest(editor, () => width(idle))
  await editor.runToTheEnd()
  const panel = await editor.panelThat(3, 'failed')
  const after = await atRest(editor, () => width(panel))
  expect(after === before, 'the node is as wide as before', [before, after])
  const inspector = await editor.details(3, 'failed')
  await inspector.locator('.rf-judge').first().waitFor()
  const spilt = () => inspector.locator('.rf-inside').evaluate((body) => body.scrollWidth - body.clientWidth)
  await until(spilt, (wide) => wide <= 0, 'nothing is wider than the inspector')
  await editor.page.keyboard.press('Escape')
}

export async function is_silent_while_nothing_runs(editor) {
  await editor.load(judged(unique('silent')))
  await (await editor.panel(2)).getByText('0.10 credits per image').first().waitFor()
  const asking = () => editor.requests.filter((each) => each.includes('runflow'))
  const quiet = async () => {
    editor.requests.length = 0
    await editor.idle()
    await editor.page.waitForTimeout(1200) // what is looked for is that nothing happens
    return asking()
  }
  await until(quiet, (asked) => asked.length === 0, 'no request, when what opening asks has been asked')
  await editor.load({ ...generated(unique('of others')), nodes: generated('x').nodes.slice(0, 1), links: [] })
  await editor.in(() => void window.app.graph.add(window.LiteGraph.createNode('Note')))
  await editor.page.waitForTimeout(400)
  const asked = asking()
  expect(asked.length === 0, 'and none for a workflow without the pack’s nodes', asked)
  const held = await editor.in(() => Object.keys(localStorage).filter((each) => /runflow/i.test(each)))
  expect(held.length === 0, 'nothing is kept in the browser', held)
}
