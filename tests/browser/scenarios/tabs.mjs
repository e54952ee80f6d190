/** Several workflows open at once: ComfyUI's events name nodes, and every workflow has a node 2. */
import { expect, until } from '../editor.mjs'
import { judged, unique } from '../workflows.mjs'

const outcomes = (editor) => editor.in(() => [...document.querySelectorAll('.rf-panel')].map((each) => each.dataset.outcome))
const tab = (editor, file) => editor.in((each) => window.app.loadGraphData(JSON.parse(each)), file)

/** Another tab, as soon as it is the open one. */
async function change(editor, command) {
  const open = () => editor.in(() => window.app.extensionManager.workflow.activeWorkflow.path)
  const before = await open()
  await editor.command(command)
  await until(open, (path) => path !== before, `${command} opens another tab`)
  await editor.idle()
}

export async function keep_their_own_verdicts(editor) {
  const theirs = judged(unique('in a tab'))
  await editor.load(theirs)
  await editor.panelThat(2, 'idle')
  const { ended } = await editor.ending()
  await editor.run()
  await editor.load(judged(unique('in another')))
  await editor.panelThat(2, 'idle')
  editor.judgeNow()
  await ended()
  await editor.frames(20)
  const here = await outcomes(editor)
  expect(here.length > 0 && here.every((each) => each === 'idle'), 'this workflow was not judged', here)
  await tab(editor, JSON.stringify(theirs))
  for (const id of [2, 3]) await editor.panelThat(id, 'failed')
}

/** The same file twice, a job queued in the copy: the original says nothing of it (M3). */
export async function duplicates_keep_their_own(editor) {
  await editor.load(judged(unique('original')))
  await editor.runToTheEnd()
  await editor.panelThat(2, 'failed')
  await editor.note()
  await change(editor, 'Comfy.DuplicateWorkflow')
  await editor.widget(2, 'generation_prompt', unique('copy'))
  const { ended } = await editor.ending()
  await editor.run()
  await editor.note()
  await change(editor, 'Workspace.PreviousOpenedWorkflow')
  editor.judgeNow()
  await ended()
  await editor.frames(20)
  const panel = await editor.panelThat(3, 'failed')
  await until(() => panel.innerText(), (text) => !text.includes('out of date'), 'the original shows its own')
  await change(editor, 'Workspace.NextOpenedWorkflow')
  await editor.panelThat(3, 'passed')
}

export async function catch_up_in_subgraphs(editor) {
  editor.excuse(/cleanup event listeners/) // frontend 1.32's own
  await editor.load(judged(unique('inside a tab')))
  await editor.in(() => void window.app.graph.convertToSubgraph(new Set([2, 3].map((id) => window.app.graph.getNodeById(id)))))
  await editor.frames()
  const theirs = await editor.serialized()
  const { ended } = await editor.ending()
  await editor.run()
  await editor.load(judged(unique('beside it')))
  editor.judgeNow()
  await ended()
  await tab(editor, theirs)
  await editor.in(() => {
    const host = window.app.graph.nodes.find((node) => node.subgraph)
    window.app.canvas.openSubgraph(host.subgraph, host)
  })
  await editor.page.waitForFunction(() => document.querySelectorAll('.rf-panel[data-outcome="failed"]').length >= 2)
  await editor.in(() => window.app.canvas.setGraph(window.app.graph))
  const badges = () => editor.in(() => window.app.graph.nodes.find((node) => node.subgraph).badges.map((each) => (typeof each === 'function' ? each() : each).text))
  await until(badges, (all) => all.some((each) => each?.includes('✕ 0.41')), 'from outside, the host says what came out inside (N6)')
}
