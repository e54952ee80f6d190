/** Several workflows open at once: ComfyUI's events name nodes, and every workflow has a node 2. */
import { expect } from '../editor.mjs'
import { judged, unique } from '../workflows.mjs'

const outcomes = (editor) => editor.in(() => [...document.querySelectorAll('.rf-panel')].map((each) => each.dataset.outcome))
const tab = (editor, file) => editor.in((each) => window.app.loadGraphData(JSON.parse(each)), file)

export async function keep_their_own_verdicts(editor) {
  const theirs = judged(unique('in a tab'))
  await editor.load(theirs)
  await editor.panelThat(2, 'idle')
  const ended = editor.in(() => new Promise((resolve) => window.comfyAPI.api.api.addEventListener('execution_success', resolve, { once: true })))
  await editor.run()
  await editor.load(judged(unique('in another')))
  await editor.panelThat(2, 'idle')
  await ended
  await editor.frames(20)
  const here = await outcomes(editor)
  expect(here.length > 0 && here.every((each) => each === 'idle'), 'this workflow was not judged', here)

  await tab(editor, JSON.stringify(theirs))
  for (const id of [2, 3]) await editor.panelThat(id, 'failed')
  expect((await editor.runToTheEnd()) === 'execution_success', 'it runs where it is open')
  await editor.panelThat(3, 'failed')
}

export async function catch_up_in_subgraphs(editor) {
  await editor.load(judged(unique('inside a tab')))
  await editor.in(() => window.app.graph.convertToSubgraph(new Set([2, 3].map((id) => window.app.graph.getNodeById(id)))))
  await editor.frames()
  const theirs = await editor.serialized()
  const ended = editor.in(() => new Promise((resolve) => window.comfyAPI.api.api.addEventListener('execution_success', resolve, { once: true })))
  await editor.run()
  await editor.load(judged(unique('beside it')))
  await ended
  await tab(editor, theirs)
  await editor.in(() => {
    const host = window.app.graph.nodes.find((node) => node.subgraph)
    window.app.canvas.openSubgraph(host.subgraph, host)
  })
  await editor.page.waitForFunction(() => document.querySelectorAll('.rf-panel[data-outcome="failed"]').length >= 2)
  editor.troubles.splice(0, Infinity, ...editor.troubles.filter((each) => !each.includes('cleanup event listeners'))) // frontend 1.32's own
}
