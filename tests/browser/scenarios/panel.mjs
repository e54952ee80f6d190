/** What a panel shows of what was sent, and whether that belongs to this run and this tab. */
import { expect } from '../editor.mjs'
import { generated, judged, unique } from '../workflows.mjs'

const text = async (panel) => (await panel.innerText()).replaceAll('\n', '|')

/** What a node sends when it has run. */
const send = (editor, id, output) => editor.in(([node, sent]) => {
  const detail = { prompt_id: crypto.randomUUID(), node, display_node: node, output: sent }
  window.comfyAPI.api.api.dispatchEvent(new CustomEvent('executed', { detail }))
}, [String(id), output])

const verdict = (id, outcome, more = {}) => ({ id, image: '', judge: 'runflow', verdict: outcome, passed: outcome === 'passed', score: 0.5, issues: [], cost: '0.10', seconds: 3, ...more })

/** On a server whose cache holds more than the last run: Evaluate sends nothing when its result is in there. */
export async function belongs_to_the_run(editor) {
  await editor.load(generated(unique('cached'), { evaluate: true, seed: 1 }))
  await editor.in(() => {
    const { graph } = window.app
    graph.remove(graph.getNodeById(6))
    const [pick, preview] = ['RunflowPickBest', 'PreviewImage'].map((type) => window.LiteGraph.createNode(type))
    graph.add(pick)
    graph.add(preview)
    graph.getNodeById(3).connect(0, pick, 0)
    graph.getNodeById(5).connect(4, pick, 1)
    pick.connect(0, preview, 0)
  })
  const run = async (seed) => {
    await editor.widget(2, 'seed', seed)
    expect((await editor.runToTheEnd()) === 'execution_success', 'it runs')
  }
  await run(1)
  await editor.panelThat(5, 'failed')
  await run(2)
  await editor.panelThat(5, 'passed')
  await run(1)
  const panel = await editor.panelThat(5, 'failed')
  expect((await text(panel)).includes('0.41'), 'the verdict of this run’s image', await text(panel))
  await editor.in(() => localStorage.removeItem('RunflowEvaluate.Shown'))
  await run(2)
  await panel.getByText('Verdict not known here').first().waitFor()
  expect(!(await text(panel)).includes('0.'), 'and none where it is not known', await text(panel))
}

export async function belongs_to_its_tab(editor) {
  await editor.load(judged(unique('original')))
  await editor.runToTheEnd()
  await editor.panelThat(2, 'failed')
  await editor.in(() => window.app.extensionManager.workflow.activeWorkflow.changeTracker.checkState())
  await editor.command('Comfy.DuplicateWorkflow')
  await editor.widget(2, 'generation_prompt', unique('copy'))
  await editor.runToTheEnd()
  await editor.panelThat(2, 'passed')
  await editor.in(() => window.app.extensionManager.workflow.activeWorkflow.changeTracker.checkState())
  await editor.command('Workspace.PreviousOpenedWorkflow')
  await editor.panelThat(2, 'failed')
  await editor.command('Workspace.NextOpenedWorkflow')
  await editor.panelThat(2, 'passed')
}

async function loop(editor) {
  await editor.load(generated(unique('a loop')))
  await editor.in(() => {
    window.app.canvas.selectNode(window.app.graph.getNodeById(2))
    return window.app.extensionManager.command.execute('RunflowEvaluate.Regenerate')
  })
  const [end] = await editor.nodesOf('RunflowRegenerateEnd')
  await editor.fit(end)
  return end
}

/** As `nodes/_attempts.py` sends it. */
const attempt = (number, outcome, members, more = {}) => ({
  attempt: number, prompt: `prompt ${number}`, seed: number, seed_digits: String(number), verdict: outcome, passed: outcome === 'passed', score: 0.5, issues: [],
  images: members.map(({ image }) => image), evaluation_ids: members.map(({ id }) => id), cost: '0.20', members, ...more
})

export async function shows_a_loop_of_batches(editor) {
  const end = await loop(editor)
  const [failed, passed] = [verdict('e1', 'failed'), verdict('e2', 'passed')]
  const winners = [verdict('w1', 'passed'), verdict('w2', 'passed')]
  const attempts = [attempt(1, 'failed', [failed, passed], { issues: ['image 1: grey'] }), attempt(2, 'passed', winners)]
  await send(editor, end, { runflow: winners, runflow_regenerate: [{ attempts, winner: 2, start: '', reason: 'passed', warnings: [] }] })
  const panel = await editor.panelThat(end, 'passed')
  expect((await text(panel)).includes('0.40 credits'), 'what all attempts cost', await text(panel))
  const images = panel.getByRole('group', { name: 'Images' }).getByRole('button')
  expect((await images.count()) === 4, 'two images in two attempts', await images.count())
  for (const [index, id, said] of [[0, 'e1', 'Attempt 1 of 2'], [1, 'e2', 'Image 2 of 2'], [3, 'w2', 'Attempt 2 of 2 came out']]) {
    await images.nth(index).click()
    await panel.locator(`code[title="${id}"]`).first().waitFor()
    await panel.getByText(said, { exact: true }).first().waitFor()
    await panel.getByText(/^No more details/).first().waitFor()
    expect((await panel.locator('.rf-foot').innerText()).includes('0.10 credits'), 'and each on its own', await text(panel))
  }
  editor.troubles.splice(0, Infinity, ...editor.troubles.filter((each) => !each.includes('/history/'))) // the journal has none of these

  await send(editor, end, { runflow: [], runflow_regenerate: [{ attempts: [attempt(1, 'unknown', [], { cost: '' })], winner: 1, start: '', reason: 'not judged', warnings: [] }] })
  const unjudged = await editor.panelThat(end, 'unknown')
  expect((await text(unjudged)).startsWith('?|Not judged'), 'a loop without a judge says so', await text(unjudged))
  expect(!(await text(unjudged)).includes('checked on this machine'), 'and claims none', await text(unjudged))
}

export async function keeps_what_matters_in_sight(editor) {
  await editor.load(judged(unique('long')))
  const panel = await editor.panelThat(2, 'idle')
  const height = async () => Math.round((await panel.boundingBox()).height)
  const before = await height()
  await send(editor, 2, { runflow: [verdict('', 'failed', { issues: ['word '.repeat(200)] })] })
  await editor.panelThat(2, 'failed')
  const inSight = (said) => panel.getByText(said).first().evaluate((each) => {
    const [own, line] = [each, each.closest('.rf-line')].map((one) => one.getBoundingClientRect())
    return own.height > 0 && own.bottom <= line.bottom + 1 && own.right <= line.right + 1
  })
  expect(await inSight('3.0 s · 0.10 credits'), 'time and credits below a long issue', await text(panel))
  expect((await height()) === before, 'no layout jump', [before, await height()])
  await editor.in(() => {
    window.app.graph.getNodeById(2).mode = 2
    window.comfyAPI.api.api.dispatchEvent(new CustomEvent('graphChanged'))
  })
  await panel.getByText('Muted: it will not run.').first().waitFor()
  await editor.panelThat(2, 'failed')
  expect(await inSight('3.0 s · 0.10 credits'), 'still there', await text(panel))
}

export async function is_open_again_after_a_reload(editor) {
  await editor.load(judged(unique('opened')))
  await editor.runToTheEnd()
  await (await editor.panelThat(2, 'failed')).getByRole('button', { name: 'Details' }).click()
  const height = () => editor.in(() => Math.round(window.app.graph.getNodeById(2).size[1]))
  const before = await height()
  await editor.reload()
  const panel = await editor.panelThat(2, 'failed')
  await panel.getByText('anatomy', { exact: true }).first().waitFor()
  expect(Math.abs((await height()) - before) < 3, 'as high as it was', [before, await height()])
}
