/** Graphs that an earlier version of the pack saved: each value and link is still of the input it was set on. */

/** What a Run would ask of each Evaluate: {execution id: inputs}. */
const questions = (editor) => editor.in(async () => {
  const { output } = await window.app.graphToPrompt()
  const asked = Object.entries(output).filter(([, { class_type: type }]) => type === 'RunflowEvaluateImage')
  return Object.fromEntries(asked.map(([id, { inputs }]) => [id, inputs]))
})

export async function means(editor, { workflow }) {
  await editor.load(workflow)
  return questions(editor)
}

/** As it was saved then, as it is saved now, and after undo. */
export async function means_the_same_after_undo_and_saving(editor, { workflow }) {
  await editor.load(workflow)
  const then = await questions(editor)
  await editor.load(JSON.parse(await editor.serialized()))
  const now = await questions(editor)
  await editor.in(() => {
    const tracker = window.app.extensionManager.workflow.activeWorkflow.changeTracker
    tracker.checkState()
    window.app.graph.nodes[0].pos = [-500, -500]
    tracker.checkState()
  })
  await editor.undo()
  return { then, now, undone: await questions(editor) }
}

/** Nodes that were copied before the pack was updated, as the browser and node templates keep them. */
export async function pastes(editor, { workflow }) {
  await editor.in(() => window.app.graph.clear())
  await editor.in(({ nodes, links }) => {
    const copied = { nodes, groups: [], reroutes: [], subgraphs: [], links: links.map(([id, origin_id, origin_slot, target_id, target_slot, type]) => ({ id, origin_id, origin_slot, target_id, target_slot, type })) }
    localStorage.setItem('litegrapheditor_clipboard', JSON.stringify(copied))
    window.app.canvas.pasteFromClipboard()
  }, workflow)
  await editor.page.waitForFunction((count) => window.app.graph.nodes.length === count, workflow.nodes.length)
  return questions(editor)
}
