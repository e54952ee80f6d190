/** The gestures, and the loop they make. */
import { expect, until } from '../editor.mjs'
import { generated, unique } from '../workflows.mjs'

const ICONS = { 'Check quality': '.pi-check-circle', 'Regenerate until it passes': '.pi-refresh' }

/** By right-click; where a renderer's menu takes no items of packs, by the button beside the selected node. */
async function gesture(editor, id, label) {
  if (editor.renderer === 'canvas') {
    await editor.rightClick(id)
    return editor.page.getByText(label, { exact: true }).first().click()
  }
  await editor.in((node) => window.app.canvas.selectNode(window.app.graph.getNodeById(node)), id)
  await editor.page.locator(`.selection-toolbox ${ICONS[label]}`).first().click()
}

export async function is_inserted_and_runs(editor) {
  const prompt = unique('a lake')
  await editor.load(generated(prompt, { seed: Math.floor(Math.random() * 1e9) }))
  const count = () => editor.in(() => window.app.graph.nodes.length)
  await gesture(editor, 2, 'Regenerate until it passes')
  await editor.page.waitForFunction(() => window.app.graph.nodes.length === 7)
  await editor.undo()
  await until(count, (now) => now === 4, 'one undo takes all of it back')
  await until(() => editor.widget(1, 'text'), (now) => now === prompt, 'and the prompt is where it was')
  await gesture(editor, 2, 'Regenerate until it passes')
  await editor.page.waitForFunction(() => window.app.graph.nodes.length === 7)
  const [start] = await editor.nodesOf('RunflowRegenerateStart')
  const [end] = await editor.nodesOf('RunflowRegenerateEnd')
  expect((await editor.widget(start, 'prompt')) === prompt, 'the prompt moved to Start')
  expect((await seedControl(editor, start)) === 'fixed', 'the seed stays')
  await editor.fit(end)
  const [evaluate] = await editor.nodesOf('RunflowEvaluateImage')
  await (await editor.panel(evaluate)).getByText(/at most 0\.30/).first().waitFor()
  const ended = await editor.runToTheEnd()
  expect(ended === 'execution_success', 'it runs', ended)
  const panel = await editor.panelThat(end, 'passed')
  const film = panel.getByRole('listbox', { name: 'Attempts' }).getByRole('option')
  await until(() => film.count(), (count) => count === 3, 'three attempts')
  await film.nth(1).click()
  const inspector = editor.page.locator('.rf-inspector')
  await inspector.locator('ins').first().waitFor()
  await compares(inspector)
  await inspector.getByRole('button', { name: 'Take this attempt instead' }).click()
  await until(() => editor.widget(start, 'prompt'), (now) => now.includes('level horizon'), 'its prompt is in Start')
  await until(() => editor.widget(end, 'max_attempts'), (now) => now === 1, 'it is the only attempt')
  await editor.runToTheEnd()
  return editor.in((node) => window.app.graph.getNodeById(node).widgets.find((each) => each.name === 'seed').value, start)
}

/** The matrix of judges and attempts, and two attempts over each other. */
async function compares(inspector) {
  await inspector.getByText('Judges by attempt', { exact: true }).first().click()
  await inspector.getByText('Compare two attempts', { exact: true }).click()
  const slider = inspector.getByRole('slider')
  await slider.fill('80')
  const cut = () => inspector.locator('.rf-pair img').nth(1).evaluate((each) => each.style.clipPath)
  await until(cut, (path) => path.includes('20%'), 'the slider shows more of the left attempt')
}

/** A loop that made its three attempts, the second one opened; its nodes and its panel. */
async function looped(editor) {
  await editor.load(generated(unique('a lake'), { seed: Math.floor(Math.random() * 1e9) }))
  await editor.in(() => {
    window.app.canvas.selectNode(window.app.graph.getNodeById(2))
    return window.app.extensionManager.command.execute('RunflowEvaluate.Regenerate')
  })
  const [start] = await editor.nodesOf('RunflowRegenerateStart')
  const [end] = await editor.nodesOf('RunflowRegenerateEnd')
  await editor.fit(end)
  await editor.runToTheEnd()
  return { start, end, panel: await second(editor, end, 'passed') }
}

async function second(editor, end, outcome) {
  const panel = await editor.panelThat(end, outcome)
  await panel.getByRole('listbox', { name: 'Attempts' }).getByRole('option').nth(1).click()
  const inspector = editor.page.locator('.rf-inspector')
  await inspector.locator('ins').first().waitFor()
  return inspector
}

export async function keeps_a_persons_choice(editor) {
  const { end, panel: inspector } = await looped(editor)
  await inspector.getByRole('button', { name: 'Take this attempt instead' }).click()
  await inspector.getByText('your choice', { exact: true }).first().waitFor()
  const reason = inspector.getByRole('textbox', { name: 'Why? (sent to Runflow)' })
  await until(() => reason.inputValue(), (now) => now === 'I took attempt 2 instead of attempt 3.', 'a reason is offered')
  await inspector.getByRole('button', { name: 'Send' }).click()
  await inspector.getByText('Rated wrong: I took attempt 2 instead of attempt 3.').first().waitFor()
  const evaluation = await inspector.locator('.rf-foot code').textContent()
  await editor.page.keyboard.press('Escape')

  await editor.reload()
  const again = await editor.panelThat(end, 'passed')
  await again.getByRole('option', { name: /Attempt 2: .*, your choice/ }).first().waitFor()

  await editor.runToTheEnd()
  const own = await editor.panelThat(end, 'failed')
  await own.getByText('your choice', { exact: true }).first().waitFor()
  const [preview] = await editor.nodesOf('PreviewImage')
  const file = await until(() => editor.in((node) => window.app.nodeOutputs[node]?.images?.[0]?.filename, preview), Boolean, 'the image is shown')
  return { file, evaluation }
}

/** As `nodes/regenerate/attempts.py` sends it; here with seeds that no number of JavaScript's can hold. */
export async function takes_a_seed_whole_or_not_at_all(editor) {
  const { start, end } = await looped(editor)
  const seeds = { 2: '18446744073709551615', 3: '9007199254740991' }
  await editor.page.keyboard.press('Escape')
  const asked = await editor.in(async (node) => {
    const answer = await window.comfyAPI.api.api.fetchApi(`/runflow-evaluate/panels?workflow=${window.app.graph.id}`)
    return (await answer.json()).panels.find((each) => each.node === String(node) && each.phase === 'done')
  }, end)
  const sent = asked.loop.attempts
  expect(sent.every((each) => each.seed_digits === String(each.seed)), 'the server sends digits', sent)
  const changed = sent.map((each) => (seeds[each.attempt] ? { ...each, seed_digits: seeds[each.attempt], seed: Number(seeds[each.attempt]) } : each))
  await editor.in((detail) => window.comfyAPI.api.api.dispatchEvent(new CustomEvent('runflow-evaluate.panel', { detail })), { ...asked, loop: { ...asked.loop, attempts: changed }, at: asked.at + 1 })

  const before = await editor.widget(start, 'seed')
  const inspector = await second(editor, end, 'passed')
  await inspector.getByText(`Seed ${seeds[2]}, prompt:`, { exact: true }).first().waitFor()
  const takes = inspector.getByRole('button', { name: 'Take this attempt instead' })
  await until(() => takes.count(), (count) => count === 0, 'it cannot be taken')
  await inspector.getByText(new RegExp(seeds[2] + '.*exactly')).first().waitFor()
  expect((await editor.widget(start, 'seed')) === before, 'Start keeps its seed', await editor.widget(start, 'seed'))
  expect((await editor.widget(end, 'max_attempts')) === 3, 'and nothing else has changed')

  await inspector.getByRole('option').nth(2).click()
  await inspector.getByRole('button', { name: 'Use the winning prompt and seed' }).click()
  const posted = await editor.in(async (node) => JSON.stringify((await window.app.graphToPrompt()).output[node].inputs.seed), start)
  expect(posted === seeds[3], 'the largest that it can hold goes out as it came', posted)
  await editor.page.keyboard.press('Escape')
}

const seedControl = (editor, id) => editor.in((each) => window.app.graph.getNodeById(each).widgets.find(({ name }) => name === 'seed').linkedWidgets[0].value, id)

export async function a_new_start_keeps_its_seed(editor) {
  await editor.load(generated(unique('new')))
  const id = await editor.in(() => {
    const node = window.LiteGraph.createNode('RunflowRegenerateStart')
    window.app.graph.add(node)
    return node.id
  })
  await until(() => seedControl(editor, id), (now) => now === 'fixed', 'it is fixed')
}

export async function checks_quality(editor) {
  await editor.load(generated(unique('checked')))
  await gesture(editor, 3, 'Check quality')
  await editor.page.waitForFunction(() => window.app.graph.nodes.length === 7)
  await editor.undo()
  await until(() => editor.in(() => window.app.graph.nodes.length), (count) => count === 4, 'one undo takes it back')
  await gesture(editor, 3, 'Check quality')
  await editor.page.waitForFunction(() => window.app.graph.nodes.length === 7)
  const [show] = await editor.nodesOf('RunflowShowVerdict')
  await editor.fit(show)
  await editor.runToTheEnd()
  await editor.panelThat(show, 'passed')
}

const links = (editor) => editor.in(() => [...window.app.graph.links.values()].map((each) => `${each.origin_id}.${each.origin_slot}>${each.target_id}.${each.target_slot}`).sort().join(' '))
const offered = (editor) => editor.page.getByRole('button', { name: 'Confirm' })

/** As a person's drag does: the improved prompt into the text that made the image. */
function wireBack(editor) {
  return editor.in(() => {
    const { graph } = window.app
    const encode = graph.getNodeById(1)
    graph.getNodeById(5).connect(3, encode, encode.inputs.findIndex(({ name }) => name === 'text'))
  })
}

export async function is_offered_for_a_prompt_wired_back(editor) {
  const text = unique('from elsewhere')
  await editor.load(generated(unique('typed long ago'), { evaluate: true }))
  await editor.in((value) => {
    const { graph, extensionManager } = window.app
    const from = window.LiteGraph.createNode('PrimitiveString')
    from.widgets[0].value = value
    graph.add(from)
    const encode = graph.getNodeById(1)
    from.connect(0, encode, encode.inputs.findIndex(({ name }) => name === 'text'))
    extensionManager.workflow.activeWorkflow.changeTracker.checkState()
  }, text)
  const before = await links(editor)
  await wireBack(editor)
  await offered(editor).waitFor()
  await editor.page.keyboard.press('Escape')
  await offered(editor).waitFor({ state: 'detached' })
  await until(() => links(editor), (now) => now === before, 'Escape leaves what fed the text')

  await wireBack(editor)
  await offered(editor).click()
  await editor.page.waitForFunction(() => window.app.graph.nodes.some((node) => node.type === 'RunflowRegenerateEnd'))
  const prompt = await editor.in(async () => (await window.app.graphToPrompt()).output)
  const [start] = await editor.nodesOf('RunflowRegenerateStart')
  const [from] = await editor.nodesOf('PrimitiveString')
  expect(prompt['1'].inputs.text[0] === String(start) && prompt['1'].inputs.text[1] === 1, 'the text comes from Start', prompt['1'].inputs)
  expect(prompt[start].inputs.prompt[0] === String(from), 'and Start has what fed it', prompt[start].inputs)

  await editor.undo()
  await until(() => links(editor), (now) => now === before, 'one undo takes all of it back')
  await editor.in(() => window.app.extensionManager.workflow.activeWorkflow.changeTracker.redo())
  await editor.frames()
  expect((await offered(editor).count()) === 0, 'undo and redo ask nothing')
}

export async function is_offered_to_the_open_workflow_only(editor) {
  await editor.load(generated(unique('left'), { evaluate: true }))
  await wireBack(editor)
  await offered(editor).waitFor()
  await editor.load(generated(unique('opened'), { evaluate: true }))
  const before = await links(editor)
  await offered(editor).click()
  await editor.frames()
  expect((await links(editor)) === before, 'nothing changes in another workflow', await links(editor))
}

/** Encode, sampler and decoder in a subgraph that gives the image out, opened; `act` on its node of that type. */
async function inside(editor, type, command) {
  await editor.load(generated(unique('inside'), { seed: Math.floor(Math.random() * 1e9) }))
  await editor.in(() => {
    const { canvas, graph, extensionManager } = window.app
    graph.convertToSubgraph(new Set([1, 2, 3].map((id) => graph.getNodeById(id))))
    const host = graph.nodes.find((node) => node.subgraph)
    canvas.openSubgraph(host.subgraph, host)
    extensionManager.workflow.activeWorkflow.changeTracker.checkState()
  })
  await editor.frames()
  await editor.in(([wanted, id]) => {
    const { canvas, extensionManager } = window.app
    canvas.selectNode(canvas.graph.nodes.find((node) => node.type === wanted))
    return extensionManager.command.execute(id)
  }, [type, command])
}

/** What of the open subgraph lies on something else: nodes, and its own input and output. */
const overlapping = (editor) => editor.in(() => {
  const { nodes, inputNode, outputNode } = window.app.canvas.graph
  const all = [...nodes, inputNode, outputNode]
  const on = (a, b) => [0, 1].every((axis) => a.pos[axis] < b.pos[axis] + b.size[axis] && b.pos[axis] < a.pos[axis] + a.size[axis])
  const ours = (each) => String(each.type).startsWith('Runflow')
  return all.flatMap((a) => all.filter((b) => a !== b && ours(a) && on(a, b)).map((b) => `${a.type} on ${b.type ?? b.id}`))
})

export async function is_inserted_in_a_subgraph(editor) {
  // Frontend 1.32's own: it looks for a subgraph of a clone's name when that sends a text.
  editor.excuse(/cleanup event listeners/, /Subgraph not found/)
  await inside(editor, 'StandInSampler', 'RunflowEvaluate.Regenerate')
  await until(() => overlapping(editor), (found) => found.length === 0, 'nothing lies on anything')
  const out = await editor.in(() => {
    const { graph } = window.app.canvas
    return graph.outputs.map((each) => each.linkIds.map((id) => graph.getNodeById(graph.getLink(id).origin_id).type))
  })
  expect(JSON.stringify(out) === '[["RunflowRegenerateEnd"]]', 'the best image goes out', out)
  // Vue nodes take their final size when they are drawn, which ComfyUI counts as a change of its own.
  const steps = await editor.in((settles) => {
    const { changeTracker } = window.app.extensionManager.workflow.activeWorkflow
    if (settles) changeTracker.checkState()
    return changeTracker.undoQueue.map((each) => each.definitions?.subgraphs?.[0]?.nodes?.length)
  }, editor.renderer === 'canvas')
  expect(steps.at(-1) === 3, 'one undo takes all of it back', steps)
  const ended = await editor.runToTheEnd()
  expect(ended === 'execution_success', 'it runs', ended)
  await editor.in(() => window.app.canvas.setGraph(window.app.rootGraph))
}

/** In the menu of a sampler: the image that comes out of it is meant. */
export async function checks_quality_of_a_sampler(editor) {
  await editor.load(generated(unique('sampled')))
  await gesture(editor, 2, 'Check quality')
  await editor.page.waitForFunction(() => window.app.graph.nodes.length === 7)
  const from = await editor.in(() => {
    const { graph } = window.app
    const judged = graph.nodes.find((node) => node.type === 'RunflowEvaluateImage')
    return graph.getLink(judged.inputs.find(({ name }) => name === 'image').link).origin_id
  })
  expect(String(from) === '3', 'the decoder’s image is judged', from)
}
