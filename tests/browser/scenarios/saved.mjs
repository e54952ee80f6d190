/** Graphs that an earlier version of the pack saved: each value and link is still of the input it was set on. */
import { saving, unique } from '../workflows.mjs'

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

/** Drop a file on the middle of the canvas. */
async function drop(editor, file) {
  await editor.in(() => window.app.graph.clear())
  await editor.in(({ name, type, bytes }) => {
    const dataTransfer = new DataTransfer()
    dataTransfer.items.add(new File([new Uint8Array(bytes)], name, { type }))
    const { left, top, width, height } = window.app.canvas.canvas.getBoundingClientRect()
    const where = { clientX: left + width / 2, clientY: top + height / 2, bubbles: true, cancelable: true, dataTransfer }
    for (const each of ['dragenter', 'dragover', 'drop']) window.app.canvas.canvas.dispatchEvent(new DragEvent(each, where))
  }, file)
}

/** An image that Save Judged Images wrote, and the saved workflow, dropped on an empty editor. */
export async function comes_back_when_it_is_dropped(editor) {
  const workflow = saving(unique('a cup of coffee'))
  await editor.load(workflow)
  const ended = await editor.runToTheEnd()
  await editor.panelThat(3, 'failed')
  const file = await editor.in(async () => {
    const history = await (await fetch('/history?max_items=1')).json()
    const [{ filename, subfolder }] = Object.values(history)[0].outputs[4].images
    const answer = await fetch(`/view?${new URLSearchParams({ filename, subfolder, type: 'output' })}`)
    return { name: filename, type: 'image/png', bytes: [...new Uint8Array(await answer.arrayBuffer())] }
  })
  const saved = { name: 'saved.json', type: 'application/json', bytes: [...new TextEncoder().encode(await editor.serialized())] }
  const found = { ended, name: file.name }
  for (const [what, dropped] of Object.entries({ image: file, workflow: saved })) {
    await drop(editor, dropped)
    await editor.page.waitForFunction((count) => window.app.graph.nodes.length === count, workflow.nodes.length)
    const panels = [await editor.panelThat(2, 'failed'), await editor.panelThat(3, 'failed')]
    found[what] = { questions: await questions(editor), says: await Promise.all(panels.map((panel) => panel.innerText())) }
  }
  return found
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
