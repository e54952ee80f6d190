/** One picture of each state, for the documentation. */
import { byHand, generated, judged } from '../workflows.mjs'
import { closeGreetings, inAppMode } from './app_mode.mjs'

const PROMPT = 'a cat looking into the camera, soft window light'
const AROUND = 24
/** What lies over the top of the canvas. */
const BELOW = 260

/** The part of the page that these nodes cover, as it is on the screen. */
async function around(editor, ids) {
  const [left, top, right, bottom] = await editor.in((wanted) => {
    const { canvas, graph } = window.app
    const box = canvas.canvas.getBoundingClientRect()
    const corners = wanted.map((id) => graph.getNodeById(id)).flatMap((node) => [[node.pos[0], node.pos[1] - 30], [node.pos[0] + node.size[0], node.pos[1] + node.size[1]]])
    const seen = corners.map((corner) => canvas.ds.convertOffsetToCanvas(corner)).map(([x, y]) => [x + box.left, y + box.top])
    const [xs, ys] = [seen.map(([x]) => x), seen.map(([, y]) => y)]
    return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)]
  }, ids)
  const { width, height } = editor.page.viewportSize()
  const [x, y] = [Math.max(0, left - AROUND), Math.max(0, top - AROUND)]
  return { x, y, width: Math.min(width, right + AROUND) - x, height: Math.min(height, bottom + AROUND) - y }
}

export async function take(editor, { folder, names, style = '' }) {
  const wanted = Object.keys(states).filter((name) => !names || names.includes(name))
  for (const name of wanted) {
    await shut(editor)
    const clip = await states[name](editor)
    await editor.in(() => window.app.canvas.deselectAll())
    await editor.page.waitForFunction(() => [...document.querySelectorAll('.rf-strip img, .rf-large img, .rf-page img')].every((each) => each.complete))
    await editor.frames(10)
    await editor.page.screenshot({ path: `${folder}/${name}${style}.png`, clip, animations: 'disabled' })
  }
  return wanted.map((name) => `${name}${style}.png`)
}

async function nodes(editor, workflow, ids, scale = 1) {
  await editor.load(workflow)
  await editor.fit(ids[0], BELOW)
  if (scale !== 1) await scaled(editor, scale)
  return () => around(editor, ids)
}

/** At that scale, with the node that was at the left and below the bars still there. */
async function scaled(editor, scale) {
  await editor.in(([wanted, ...corner]) => {
    const { canvas } = window.app
    canvas.ds.scale = wanted
    canvas.ds.offset = [0, 1].map((axis) => canvas.ds.offset[axis] + corner[axis] * (1 / wanted - 1))
    canvas.setDirty(true, true)
  }, [scale, 90, BELOW])
  await editor.frames()
}

/** ComfyUI's own first workflow: prompts 6 and 7, sampler 3, decoder 8. */
async function textToImage(editor) {
  await editor.command('Comfy.LoadDefaultWorkflow')
  await editor.page.waitForFunction(() => window.app.graph.getNodeById(3)?.type === 'KSampler')
}

async function ran(editor, workflow, ids) {
  const clip = await nodes(editor, workflow, ids)
  await editor.runToTheEnd()
  return clip
}

/** The clip, wide enough for the inspector too. */
async function withInspector(editor, clip) {
  await editor.page.locator('.rf-inspector .rf-judge, .rf-inspector .rf-rating').first().waitFor()
  await editor.frames(10)
  const { x, y, width, height } = await editor.page.locator('.rf-inspector').boundingBox()
  const [right, bottom] = [Math.max(clip.x + clip.width, x + width + AROUND), Math.max(clip.y + clip.height, y + height + AROUND)]
  const view = editor.page.viewportSize()
  const top = Math.max(0, Math.min(clip.y, y - AROUND))
  return { x: clip.x, y: top, width: Math.min(right, view.width) - clip.x, height: Math.min(bottom, view.height) - top }
}

const shut = (editor) => editor.page.keyboard.press('Escape')

const states = {
  async idle(editor) {
    const clip = await nodes(editor, judged(PROMPT), [1, 2, 3])
    await (await editor.panel(2)).getByText('credits per image').first().waitFor()
    return clip()
  },
  async will_not_run(editor) {
    return (await nodes(editor, judged(PROMPT, { shows: false }), [1, 2]))()
  },
  async waiting(editor) {
    const clip = await nodes(editor, judged(`${PROMPT} `, { image: 'chelsea.jpg' }), [1, 2, 3])
    await editor.run()
    await editor.panelThat(2, 'waiting')
    await editor.page.waitForTimeout(1200)
    return clip()
  },
  async failed(editor) {
    await editor.in(() => window.comfyAPI.api.api.interrupt())
    const clip = await ran(editor, judged(PROMPT, { image: 'chelsea.jpg' }), [1, 2, 3])
    await editor.details(3, 'failed')
    return withInspector(editor, await clip())
  },
  async passed(editor) {
    return (await ran(editor, judged('a cup of espresso from above', { image: 'coffee.jpg' }), [1, 2, 3]))()
  },
  async local(editor) {
    return (await ran(editor, judged(PROMPT, { judge: 'local', image: 'chelsea_underexposed.jpg' }), [1, 2, 3]))()
  },
  async batch(editor) {
    const clip = await ran(editor, generated('three photographs', { evaluate: true, batch: 3 }), [6])
    const panel = await editor.panel(6)
    await panel.locator('.rf-strip [data-outcome=failed]').click()
    return withInspector(editor, await clip())
  },
  async gesture(editor) {
    await textToImage(editor)
    await editor.fit(6, BELOW)
    await editor.rightClick(3)
    await editor.page.getByText('Regenerate until it passes', { exact: true }).first().hover()
    const box = await around(editor, [6, 3, 8])
    return { ...box, height: Math.max(box.height, 520) }
  },
  async inserted(editor) {
    await editor.in(() => window.LiteGraph.closeAllContextMenus(window))
    await textToImage(editor)
    await editor.in(() => {
      window.app.canvas.selectNode(window.app.graph.getNodeById(3))
      return window.app.extensionManager.command.execute('RunflowEvaluate.Regenerate')
    })
    const [start] = await editor.nodesOf('RunflowRegenerateStart')
    const [end] = await editor.nodesOf('RunflowRegenerateEnd')
    await editor.fit(null, BELOW) // Start stands lower than the nodes that it feeds
    await scaled(editor, 0.6)
    return around(editor, [start, 6, 7, 3, 5, 8, end])
  },
  async by_hand(editor) {
    const clip = await nodes(editor, byHand(), [1, 2, 3, 4, 5, 6, 7, 8], 0.8)
    await editor.runToTheEnd()
    await editor.panelThat(7, 'passed')
    return clip()
  },
  async loop(editor) {
    await editor.page.keyboard.press('Escape')
    await editor.load(generated(PROMPT, { seed: 3 }))
    await editor.in(() => {
      window.app.canvas.selectNode(window.app.graph.getNodeById(2))
      return window.app.extensionManager.command.execute('RunflowEvaluate.Regenerate')
    })
    const [end] = await editor.nodesOf('RunflowRegenerateEnd')
    const [evaluate] = await editor.nodesOf('RunflowEvaluateImage')
    await editor.fit(evaluate, BELOW)
    await editor.runToTheEnd()
    const panel = await editor.panelThat(end, 'passed')
    await panel.getByRole('listbox', { name: 'Attempts' }).getByRole('option').nth(1).click()
    await editor.page.locator('.rf-inspector ins').first().waitFor()
    await editor.page.getByText('Compare two attempts', { exact: true }).click()
    return withInspector(editor, await around(editor, [evaluate, end]))
  },
  async history(editor) {
    await editor.command('Workspace.ToggleSidebarTab.runflow-evaluate')
    const page = editor.page.locator('.rf-history')
    await page.locator('.rf-history-row img').first().waitFor()
    const { x, y, width } = await page.boundingBox()
    return { x, y, width, height: 640 }
  },
  async history_detail(editor) {
    const page = editor.page.locator('.rf-history')
    await page.locator('[data-outcome=failed] .rf-history-row').first().click()
    const inspector = editor.page.locator('.rf-inspector')
    await inspector.getByRole('button', { name: 'Yes, the verdict is right' }).click()
    await inspector.getByText('Rated right').waitFor()
    const { x, y, width } = await page.boundingBox()
    return withInspector(editor, { x, y, width, height: 640 })
  },
  async settings(editor) {
    await editor.command('Workspace.ToggleSidebarTab.runflow-evaluate')
    await editor.command('Comfy.ShowSettingsDialog')
    await editor.page.getByText('Runflow Evaluate', { exact: true }).first().click()
    await editor.page.getByRole('button', { name: 'Check' }).click()
    await editor.page.getByText('The key works.').waitFor()
    const box = await editor.page.getByRole('dialog').first().boundingBox()
    await editor.in(() => document.activeElement.blur())
    return box
  },
  async insight(editor) {
    await editor.command('Workspace.ToggleSidebarTab.runflow-evaluate-insight')
    await editor.page.getByRole('combobox', { name: 'And by' }).selectOption('sampler')
    await editor.page.locator('.rf-grid').waitFor()
    return editor.page.locator('.rf-page', { has: editor.page.locator('.rf-insight') }).boundingBox()
  },
  async app(editor) {
    await inAppMode(editor)
    await closeGreetings(editor)
    return undefined
  },
  async templates(editor) {
    await editor.page.keyboard.press('Escape')
    await editor.command('Comfy.BrowseTemplates')
    const dialog = editor.page.getByRole('dialog').first()
    await dialog.getByText('ComfyUI-Runflow-Evaluate').first().click()
    await dialog.getByText('first_verdict', { exact: true }).first().waitFor()
    return dialog.boundingBox()
  }
}
