/** The shipped examples and blueprints, as a person opens them. */
import { expect, until } from '../editor.mjs'

/** What a frontend says by itself when a workflow names a model to download and there is no network. */
const NO_NETWORK = /Error fetching file size|Failed to fetch|ERR_INTERNET_DISCONNECTED|ERR_NAME_NOT_RESOLVED|huggingface\.co/
const MODEL = /v1-5-pruned-emaonly-fp16|flux1-dev-kontext/

async function open(editor, workflow, changes = {}) {
  editor.excuse(NO_NETWORK, /cleanup event listeners/) // the second is frontend 1.32's own
  const opensAsApp = workflow.extra?.linearMode === true // its graph is looked at
  await editor.load(opensAsApp ? { ...workflow, extra: { ...workflow.extra, linearMode: false } } : workflow)
  await editor.frames(10) // Vue nodes get their height from the page
  const unknown = await editor.in(() => window.app.graph.nodes.filter((node) => !node.subgraph && !window.LiteGraph.registered_node_types[node.type]).map((node) => node.type))
  expect(unknown.length === 0, 'every node is known', unknown)
  await change(editor, changes)
}

/** {node type, or title of a subgraph: {widget: value}}, on the graph itself. */
async function change(editor, changes) {
  await editor.in((wanted) => {
    for (const node of window.app.graph.nodes) {
      for (const [name, value] of Object.entries(wanted[node.type] ?? wanted[node.title] ?? {})) {
        const widget = node.widgets.find((each) => each.name === name)
        widget.value = value
        widget.callback?.(value)
      }
    }
  }, changes)
}

/** `misses`: whether the editor is to name a model that is not there. */
export async function opens(editor, { workflow, misses, changes = {} }) {
  await open(editor, workflow, changes)
  expect((await closeMissing(editor, misses)) === misses, misses ? 'it names the model' : 'it misses no model')
  await lies_well(editor)
}

export async function opens_inside(editor, { workflow }) {
  await open(editor, workflow)
  await closeMissing(editor, MODEL.test(JSON.stringify(workflow)))
  await editor.in(() => {
    const host = window.app.graph.nodes.find((node) => node.subgraph)
    window.app.canvas.openSubgraph(host.subgraph, host)
  })
  await editor.page.waitForFunction(() => window.app.canvas.graph !== window.app.graph && window.app.canvas.graph.nodes.length > 1)
  await editor.frames(20)
  await lies_well(editor)
  await editor.in(() => window.app.canvas.setGraph(window.app.graph))
}

/** No node covers another; as canvas, where the note's text has an element of its own, all of it can be read. */
async function lies_well(editor) {
  await until(() => overlaps(editor), (covered) => covered.length === 0, 'no node lies on another')
  const note = () => editor.in(() => {
    const { element } = window.app.canvas.graph.nodes.find((node) => node.type === 'MarkdownNote').widgets[0]
    const text = element?.querySelector('.tiptap') ?? element
    return text && { needs: text.scrollHeight, has: (text.closest('.comfy-markdown') ?? text).clientHeight }
  })
  await until(note, (size) => !size || size.needs <= size.has + 2, 'the whole note can be read')
}

/** Where a dialog or a toast names the missing checkpoint: close it, and say so; it is waited for where it is to come. */
async function closeMissing(editor, misses) {
  const named = editor.page.locator('[role=dialog], [role=alert], .p-toast').filter({ hasText: MODEL }).first()
  const seen = misses ? await named.waitFor().then(() => true, () => false) : await named.isVisible()
  const closed = async () => {
    await editor.page.keyboard.press('Escape')
    await editor.frames(20)
    return named.count()
  }
  if (seen) await until(closed, (count) => count === 0, 'it closes') // the next one is not shown while this one goes
  return seen
}

/** Pairs of nodes that cover each other, as they are drawn: by the renderer's own element where there is one. */
const overlaps = (editor) => editor.in(() => {
  const { canvas } = window.app
  const boxes = canvas.graph.nodes.map((node) => {
    const drawn = document.querySelector(`[data-node-id="${node.id}"]`)?.getBoundingClientRect()
    if (!drawn?.height) return { node, x: node.pos[0], y: node.pos[1] - 30, width: node.size[0], height: node.size[1] + 30 }
    const { scale, offset } = canvas.ds
    const box = canvas.canvas.getBoundingClientRect()
    return { node, x: (drawn.x - box.x) / scale - offset[0], y: (drawn.y - box.y) / scale - offset[1], width: drawn.width / scale, height: drawn.height / scale }
  })
  const name = ({ node, x, y, width, height }) => `${node.id} ${node.title} ${[x, y, width, height].map(Math.round)}`
  const over = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height
  return boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => over(a, b)).map((b) => `${name(a)} | ${name(b)}`))
})

export async function runs(editor, { workflow, changes, misses }) {
  await opens(editor, { workflow, misses, changes })
  const ended = await editor.runToTheEnd()
  expect(ended === 'execution_success', 'it runs', ended)
  await editor.frames(20)
  await until(() => overlaps(editor), (covered) => covered.length === 0, 'no node lies on another when verdicts are shown')
}

/** From the node library into an empty graph, as a person does it; what a person can set on it is given back. */
async function add(editor, name) {
  editor.excuse(NO_NETWORK)
  await editor.in(() => window.app.graph.clear())
  const open = await editor.page.locator('input[placeholder*="Search"]').count()
  if (!open) await editor.command('Workspace.ToggleSidebarTab.node-library')
  await editor.page.locator('input[placeholder*="Search"]').first().fill(name)
  const entry = editor.page.getByText(name, { exact: true }).and(editor.page.locator(':not(.node_header)')) // not its preview
  await entry.last().click()
  // A newer frontend hangs the node on the pointer until it is put down.
  for (let round = 0; round < 20 && !(await editor.in(() => window.app.graph.nodes.length)); round++) {
    await editor.frames(5)
    if (round % 4 === 2) await editor.page.mouse.click(1100, 800)
  }
  await editor.page.waitForFunction(() => window.app.graph.nodes.length === 1)
  await editor.command('Workspace.ToggleSidebarTab.node-library')
  return editor.in(() => {
    const host = window.app.graph.nodes[0]
    const own = ({ name }) => !name.startsWith('$$') // the preview of a node of the workflow before
    return { title: host.title, widgets: host.widgets.filter(own).map((each) => each.name), inputs: host.inputs.map((each) => each.name), outputs: host.outputs.map((each) => each.name) }
  })
}

const prompt = (editor) => editor.in(async () => Object.values((await window.app.graphToPrompt()).output))

/** Of which output the image came: what was executed shows a picture. */
async function shown(editor) {
  await editor.in(() => {
    window.seen = new Set()
    window.comfyAPI.api.api.addEventListener('executed', ({ detail }) => detail.output?.images?.length && window.seen.add(String(detail.display_node ?? detail.node)))
  })
  const ended = await editor.runToTheEnd()
  expect(ended === 'execution_success', 'it runs', ended)
  return editor.in(() => window.app.graph.nodes.filter((node) => node.type === 'PreviewImage' && window.seen.has(String(node.id))).map((node) => node.title))
}

export async function adds_the_gate(editor, { image, wishes }) {
  const found = await add(editor, 'Quality gate')
  await editor.in(([file]) => {
    const { graph } = window.app
    const [gate] = graph.nodes
    const [load, passed, failed] = ['LoadImage', 'PreviewImage', 'PreviewImage'].map((type) => graph.add(window.LiteGraph.createNode(type)) ?? graph.nodes.at(-1))
    load.widgets[0].value = file
    load.connect(0, gate, 0)
    gate.connect(0, passed, 0)
    gate.connect(1, failed, 0)
    passed.title = 'passed'
    failed.title = 'failed'
  }, [image])
  const sides = []
  for (const wish of wishes) {
    await change(editor, { 'Quality gate': { evaluation_instructions: wish } })
    const asked = (await prompt(editor)).find((each) => each.class_type === 'RunflowEvaluateImage')
    expect(asked.inputs.evaluation_instructions === wish, 'what is set on the node is asked', asked.inputs)
    sides.push(await shown(editor))
  }
  return { ...found, shown: sides }
}

export async function adds_text_to_image(editor, { changes }) {
  const found = await add(editor, 'Text to image until it passes')
  await editor.in(() => {
    const { graph } = window.app
    const [host] = graph.nodes
    const save = window.LiteGraph.createNode('SaveImage')
    graph.add(save)
    host.connect(0, save, 0)
  })
  await change(editor, { 'Text to image until it passes': changes })
  await editor.frames(20)
  await closeMissing(editor, false)
  const seeds = []
  for (const round of [1, 2]) {
    const ended = await editor.runToTheEnd()
    expect(ended === 'execution_success', `run ${round}`, ended)
    const start = (await prompt(editor)).find((each) => each.class_type === 'RunflowRegenerateStart')
    seeds.push(start.inputs.seed)
  }
  return { ...found, seeds }
}

/** The picture of each template in the template browser. */
export async function shows_templates(editor, { names }) {
  await editor.command('Comfy.BrowseTemplates')
  const dialog = editor.page.getByRole('dialog').first()
  await dialog.getByText('ComfyUI-Runflow-Evaluate').first().click()
  const asked = (name) => editor.requests.some((each) => decodeURI(each).includes(`/${name}.jpg`))
  for (const name of names) {
    const card = dialog.getByText(name, { exact: true }).first()
    await card.scrollIntoViewIfNeeded()
    await card.waitFor()
    // Cards out of sight have no picture; one in sight may have it under an address of its own (blob:).
    await editor.page.waitForFunction((title) => {
      let at = title
      while (at && !at.querySelector('img')) at = at.parentElement
      return at?.matches('[role=dialog] *') && at.querySelector('img').naturalWidth > 0
    }, await card.elementHandle())
    await until(() => asked(name), Boolean, `the picture of ${name} is asked for`) // the one found may be another card's
  }
  editor.spent = true // the template browser stays open
}

/** Of these nodes, after a run, in the middle of a picture of that ratio of width and height. */
export async function pictures(editor, { workflow, ids, runs, path, ratio }) {
  await open(editor, workflow)
  await closeMissing(editor, MODEL.test(JSON.stringify(workflow)))
  if (runs) await editor.runToTheEnd()
  const clip = await editor.in(([wanted, wide]) => {
    const { canvas, graph } = window.app
    for (const note of graph.nodes.filter((node) => node.type === 'MarkdownNote')) graph.remove(note)
    const bar = [80, 200]
    const below = 120
    const boxes = wanted.map((id) => graph.getNodeById(id)).map(({ pos, size }) => [pos[0], pos[1] - 30, pos[0] + size[0], pos[1] + size[1]])
    const edge = (side, of) => of(...boxes.map((box) => box[side]))
    const [left, top, right, bottom] = [edge(0, Math.min), edge(1, Math.min), edge(2, Math.max), edge(3, Math.max)]
    const around = 40
    const height = Math.max(bottom - top, (right - left) / wide) + around
    const width = height * wide
    const scale = Math.min((window.innerWidth - bar[0]) / width, (window.innerHeight - bar[1] - below) / height, 1.2)
    canvas.ds.scale = scale
    canvas.ds.offset = [bar[0] / scale - (left + right - width) / 2, bar[1] / scale - (top + bottom - height) / 2]
    canvas.deselectAll()
    canvas.setDirty(true, true)
    const box = canvas.canvas.getBoundingClientRect()
    return { x: box.left + bar[0], y: box.top + bar[1], width: width * scale, height: height * scale }
  }, [ids, ratio])
  await editor.page.waitForFunction((wanted) => wanted.map((id) => window.app.graph.getNodeById(id)).every((node) => {
    return node.hideOutputImages || !window.app.nodeOutputs?.[node.id]?.images?.length || node.imgs?.every((each) => each.complete)
  }), ids)
  await editor.frames(10)
  await editor.page.waitForFunction(() => [...document.querySelectorAll('.rf-strip img')].every((each) => each.complete))
  const view = editor.page.viewportSize()
  const inside = { ...clip, width: Math.min(clip.width, view.width - clip.x), height: Math.min(clip.height, view.height - clip.y) }
  await editor.page.screenshot({ path, clip: inside, animations: 'disabled' })
}
