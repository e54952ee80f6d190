/** The gestures, and the loop they make. */
import { expect } from '../editor.mjs'
import { generated, unique } from '../workflows.mjs'

const ICONS = { 'Check quality': '.pi-check-circle', 'Regenerate until it passes': '.pi-refresh' }

/** By right-click; where a renderer's menu takes no items of packs, by the button beside the selected node. */
async function gesture(editor, id, label) {
  await editor.rightClick(id)
  const item = editor.page.getByText(label, { exact: true }).first()
  if (await item.waitFor({ timeout: 3000 }).then(() => true, () => false)) return item.click()
  await editor.page.keyboard.press('Escape')
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
  expect((await count()) === 4, 'one undo takes all of it back', await count())
  expect((await editor.widget(1, 'text')) === prompt, 'and the prompt is where it was')
  await gesture(editor, 2, 'Regenerate until it passes')
  await editor.page.waitForFunction(() => window.app.graph.nodes.length === 7)
  const [start] = await editor.nodesOf('RunflowRegenerateStart')
  const [end] = await editor.nodesOf('RunflowRegenerateEnd')
  expect((await editor.widget(start, 'prompt')) === prompt, 'the prompt moved to Start')
  expect((await seedControl(editor, start)) === 'fixed', 'the seed stays')
  await editor.fit(end)
  await (await editor.panel(end)).getByText('≈ 0.10 credits per image, at most 0.30 in this loop').first().waitFor()
  const ended = await editor.runToTheEnd()
  expect(ended === 'execution_success', 'it runs', ended)
  const panel = await editor.panelThat(end, 'passed')
  const film = panel.getByRole('group', { name: 'Images' }).getByRole('button')
  expect((await film.count()) === 3, 'three attempts', await film.count())
  await film.nth(1).click()
  await panel.locator('ins').first().waitFor()
  await panel.getByRole('button', { name: 'Take this attempt instead' }).click()
  expect((await editor.widget(start, 'prompt')).includes('level horizon'), 'its prompt is in Start')
  expect((await editor.widget(end, 'max_attempts')) === 1, 'it is the only attempt')
  await editor.runToTheEnd()
  return editor.in((node) => window.app.graph.getNodeById(node).widgets.find((each) => each.name === 'seed').value, start)
}

const seedControl = (editor, id) => editor.in((each) => window.app.graph.getNodeById(each).widgets.find(({ name }) => name === 'seed').linkedWidgets[0].value, id)

export async function a_new_start_keeps_its_seed(editor) {
  await editor.load(generated(unique('new')))
  const id = await editor.in(() => {
    const node = window.LiteGraph.createNode('RunflowRegenerateStart')
    window.app.graph.add(node)
    return node.id
  })
  expect((await seedControl(editor, id)) === 'fixed', 'it is fixed', await seedControl(editor, id))
}

export async function checks_quality(editor) {
  await editor.load(generated(unique('checked')))
  await gesture(editor, 3, 'Check quality')
  await editor.page.waitForFunction(() => window.app.graph.nodes.length === 6)
  await editor.undo()
  expect((await editor.in(() => window.app.graph.nodes.length)) === 4, 'one undo takes it back')
  await gesture(editor, 3, 'Check quality')
  await editor.page.waitForFunction(() => window.app.graph.nodes.length === 6)
  const [show] = await editor.nodesOf('RunflowShowVerdict')
  await editor.fit(show)
  await editor.runToTheEnd()
  await editor.panelThat(show, 'passed')
}

export async function is_offered_for_a_prompt_wired_back(editor) {
  await editor.load(generated(unique('wired back'), { evaluate: true }))
  await editor.in(() => {
    const { graph } = window.app
    const encode = graph.getNodeById(1)
    graph.getNodeById(5).connect(3, encode, encode.inputs.findIndex(({ name }) => name === 'text'))
  })
  await editor.page.getByRole('button', { name: 'Confirm' }).click()
  await editor.page.waitForFunction(() => window.app.graph.nodes.some((node) => node.type === 'RunflowRegenerateEnd'))
  const prompt = await editor.in(async () => (await window.app.graphToPrompt()).output)
  expect(prompt['1'].inputs.text[1] === 1, 'the text comes from Start', prompt['1'].inputs)
}
