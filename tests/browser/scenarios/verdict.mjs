/** The verdict on the node, from before Run to after a reload. */
import { expect } from '../editor.mjs'
import { generated, judged, unique } from '../workflows.mjs'

const text = (panel) => panel.innerText()
const height = async (panel) => Math.round((await panel.boundingBox()).height)
const width = async (panel) => Math.round((await panel.boundingBox()).width)

export async function waits_and_shows(editor) {
  await editor.load(judged(unique('a cup')))
  const panel = await editor.panelThat(2, 'idle')
  await panel.getByText('≈ 0.10 credits per image').first().waitFor()
  const before = await height(panel)
  await editor.run()
  await editor.panelThat(2, 'waiting')
  await panel.getByText(/waiting for the verdict · \d+ s/).first().waitFor()
  expect(await editor.in(() => window.app.graph.getNodeById(2).widgets.filter((each) => each.element).length) >= 1, 'the panel is a widget')
  const during = await height(panel)
  await editor.panelThat(2, 'failed')
  expect((await text(panel)).includes('0.41'), 'the score is shown', await text(panel))
  expect((await text(panel)).includes('0.10 credits'), 'the cost is shown', await text(panel))
  expect(before === during && during === (await height(panel)), 'no layout jump', [before, during, await height(panel)])
  expect((await panel.getByRole('meter').getAttribute('aria-valuenow')) === '0.41', 'the bar says the score')
  await editor.panelThat(3, 'failed')
  await panel.getByRole('button', { name: 'Details' }).click()
  await panel.getByText('anatomy', { exact: true }).first().waitFor()
  const opened = await text(panel)
  for (const wanted of ['six fingers', 'a bent wrist', 'left hand, lower right', 'two faces', 'soft natural light', 'a hand with five fingers']) {
    expect(opened.includes(wanted), `${wanted} is shown`, opened)
  }
  await panel.getByRole('button', { name: 'Close' }).click()
  expect((await height(panel)) === before, 'closed it is as high as before', await height(panel))
}

export async function says_why_it_will_not_run(editor) {
  await editor.load(judged('alone', { shows: false }))
  const panel = await editor.panel(2)
  await panel.getByText('Will not run: connect an output, or add Show Verdict.').first().waitFor()
  await editor.load(judged('local', { judge: 'local' }))
  await (await editor.panel(2)).getByText('Free: checks pixels on this machine, not content').first().waitFor()
}

export async function rates(editor, { steps }) {
  await editor.load(judged(unique('rated')))
  await editor.runToTheEnd()
  const panel = await editor.panelThat(2, 'passed')
  await panel.getByRole('button', { name: 'Details' }).click()
  const good = panel.getByRole('button', { name: 'Yes, the verdict is right' })
  const focused = () => editor.in(() => document.activeElement.getAttribute('aria-label'))
  await good.press('Enter')
  await panel.locator('[aria-label="Yes, the verdict is right"][aria-pressed="true"]').first().waitFor()
  expect((await focused()) === 'Yes, the verdict is right', 'the keyboard stays where it was', await focused())
  if (steps === 'good') return editor.in(() => document.querySelector('.rf-foot code').textContent)
  await panel.getByRole('button', { name: 'No, the verdict is wrong' }).click()
  await panel.getByRole('textbox', { name: 'Why? (sent to Runflow)' }).fill('the hand is fine')
  await panel.getByRole('button', { name: 'Send' }).press('Enter')
  await panel.locator('[aria-label="No, the verdict is wrong"][aria-pressed="true"]').first().waitFor()
  expect((await focused()) === 'No, the verdict is wrong', 'what goes away gives the focus to a thumb', await focused())
  await panel.getByText('Rated wrong: the hand is fine').first().waitFor()
  if (steps === 'bad') return editor.in(() => document.querySelector('.rf-foot code').textContent)
  await panel.getByRole('button', { name: 'Take it back' }).press('Enter')
  await panel.getByRole('button', { name: 'Take it back' }).waitFor({ state: 'detached' })
  expect((await focused()) === 'Yes, the verdict is right', 'and so does this', await focused())
  return editor.in(() => document.querySelector('.rf-foot code').textContent)
}

export async function uses_the_improved_prompt(editor) {
  const prompt = unique('a hand')
  await editor.load(generated(prompt, { evaluate: true }))
  await editor.runToTheEnd()
  const panel = await editor.panelThat(6, 'failed')
  await panel.getByRole('button', { name: 'Details' }).click()
  await panel.getByRole('button', { name: 'Use it' }).click()
  await editor.page.waitForFunction(() => window.app.graph.getNodeById(1).widgets[0].value === 'a hand with five fingers')
  expect((await editor.widget(5, 'generation_prompt')) === 'a hand with five fingers', 'Evaluate judges against it too')
  await editor.page.keyboard.press('Control+z')
  await editor.page.waitForFunction((before) => window.app.graph.getNodeById(1).widgets[0].value === before, prompt)
  await editor.panelThat(6, 'failed')
}

export async function survives_a_reload(editor) {
  await editor.load(judged(unique('reloaded')))
  await editor.runToTheEnd()
  await editor.panelThat(2, 'failed')
  const file = await editor.serialized()
  for (const secret of ['six fingers', 'rf_test', '0.41', 'five fingers']) expect(!file.includes(secret), `the workflow holds ${secret}`)
  const values = JSON.parse(file).nodes.find((node) => node.id === 2).widgets_values
  expect(values.length === 7, 'the panel adds no widget value', values)
  await editor.reload()
  const panel = await editor.panelThat(2, 'failed')
  expect((await text(panel)).includes('0.41'), 'the score is back')
  await editor.panelThat(3, 'failed')
  const ended = await editor.runToTheEnd()
  expect(ended === 'execution_success', 'it ran again', ended)
  await editor.panelThat(2, 'failed')
  expect(!(await editor.in(() => JSON.stringify({ ...localStorage }))).includes('rf_test'), 'the browser holds no key')
}

export async function keeps_injected_script_as_text(editor) {
  await editor.load(judged(unique('<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>')))
  await editor.runToTheEnd()
  const panel = await editor.panelThat(2, 'failed')
  await panel.getByRole('button', { name: 'Details' }).click()
  await panel.getByText('<b>judge</b>').first().waitFor()
  expect((await panel.locator('b, script, img[src="x"], iframe').count()) === 0, 'markup stays text')
  await panel.locator('.rf-prompt').first().waitFor()
  expect((await editor.in(() => window.hacked)) === undefined, 'nothing ran')
}

export async function shows_a_batch(editor) {
  await editor.load(generated(unique('a batch'), { evaluate: true, batch: 3 }))
  await editor.runToTheEnd()
  const panel = await editor.panelThat(6, 'failed')
  await panel.getByText('2 of 3 passed', { exact: true }).first().waitFor()
  const images = panel.getByRole('group', { name: 'Images' }).getByRole('button')
  expect((await images.count()) === 3, 'one button per image', await images.count())
  await editor.page.waitForFunction((node) => [...document.querySelectorAll(`[data-test-node="${node}"] .rf-strip img`)].filter((each) => each.naturalWidth > 0).length === 3, 6)
  await images.nth(0).click()
  await panel.getByText('Image 1 of 3', { exact: true }).first().waitFor()
  const cut = await panel.locator('.rf-strip').evaluate((strip) => {
    strip.style.width = '120px'
    const { offsetTop, offsetHeight: high, offsetWidth: wide } = strip.lastChild
    return { room: strip.clientHeight, all: strip.offsetHeight, ends: offsetTop - strip.offsetTop + high, high, wide }
  })
  expect(cut.room < cut.all && cut.ends <= cut.room && cut.wide === cut.high && cut.all <= 50, 'a scrollbar cuts no image', cut)
}

/** Right-to-left texts of others in a left-to-right page. */
export async function reads_in_its_own_direction(editor) {
  await editor.load(judged(unique('direction')))
  await editor.runToTheEnd()
  const panel = await editor.panelThat(2, 'failed')
  await panel.getByRole('button', { name: 'Details' }).click()
  const item = panel.locator('.rf-issues li').first()
  await item.waitFor()
  const [text, box] = await item.evaluate((each) => {
    const range = document.createRange()
    range.selectNodeContents(each)
    return [range, each].map((one) => one.getBoundingClientRect().right)
  })
  expect(Math.abs(text - box) < 3, 'it begins at the right', [text, box])
}

export async function says_what_went_wrong(editor, { code }) {
  await editor.load(judged(unique('refused')))
  await editor.runToTheEnd()
  const panel = await editor.panelThat(2, 'unknown')
  expect((await text(panel)).includes(`[${code}]`), 'the code is shown', await text(panel))
  await editor.page.keyboard.press('Escape')
}

export async function says_that_it_was_cancelled(editor) {
  await editor.load(judged(unique('cancelled')))
  await editor.run()
  await editor.panelThat(2, 'waiting')
  await editor.in(() => window.comfyAPI.api.api.interrupt())
  const panel = await editor.panelThat(2, 'unknown')
  expect((await text(panel)).includes('Cancelled'), 'it says so', await text(panel))
}

export async function shows_local_checks(editor) {
  await editor.load(judged(unique('local'), { judge: 'local', image: 'chelsea_underexposed.jpg' }))
  await editor.runToTheEnd()
  const panel = await editor.panelThat(2, 'failed')
  expect((await text(panel)).includes('local · pixels only'), 'it is marked as local', await text(panel))
  await panel.getByRole('button', { name: 'Details' }).click()
  await panel.getByText('Pixel checks (2 of 8 failed)', { exact: true }).first().waitFor()
  await panel.getByText('brightest 0.1 % at 0.04 of 1, at least 0.12').first().waitFor()
  await panel.getByText('noise', { exact: true }).first().click()
  await panel.getByText(/noise of the quiet areas 0\.\d+ of 1, at most 0\.062/).first().waitFor()
  const all = await panel.innerText()
  for (const absent of ['credits', 'Is this verdict right']) expect(!all.includes(absent), `it does not say ${absent}`, all)
}

export async function says_that_the_judge_is_off(editor) {
  await editor.load(judged(unique('off'), { judge: 'off' }))
  await editor.runToTheEnd()
  const panel = await editor.panelThat(3, 'unknown')
  await panel.getByText('Judge is off: everything passes, nothing is paid', { exact: true }).first().waitFor()
  expect((await panel.getByRole('button').count()) === 0, 'there is nothing to open')
}

export async function keeps_the_nodes_width(editor) {
  await editor.load(judged(unique('endless')))
  const before = await width(await editor.panelThat(2, 'idle'))
  await editor.runToTheEnd()
  const panel = await editor.panelThat(2, 'failed')
  await panel.getByRole('button', { name: 'Details' }).click()
  await panel.locator('.rf-judge').first().waitFor()
  expect((await width(panel)) === before, 'the node is as wide as before', [before, await width(panel)])
  const spilt = await panel.locator('.rf-body').evaluate((body) => body.scrollWidth - body.clientWidth)
  expect(spilt <= 0, 'nothing is wider than the panel', spilt)
}

export async function works_by_keyboard_with_contrast(editor) {
  await editor.load(judged(unique('keyboard')))
  await editor.runToTheEnd()
  const panel = await editor.panelThat(2, 'failed')
  const focused = (button) => button.evaluate((each) => each === document.activeElement)
  const details = panel.getByRole('button', { name: 'Details' })
  for (let tries = 0; tries < 20 && !(await focused(details)); tries++) {
    await details.focus()
    await editor.frames(20) // Vue nodes are drawn anew at the end of a run, on a busy machine late
  }
  await editor.page.keyboard.press('Enter')
  const close = panel.getByRole('button', { name: 'Close' })
  await close.waitFor()
  expect((await close.getAttribute('aria-expanded')) === 'true', 'it says that it is open')
  expect(await focused(close), 'the focus stays')
  await editor.page.keyboard.press('Tab')
  expect(await editor.in(() => document.activeElement.closest('.rf-panel') !== null), 'Tab goes into the details')
  expect((await panel.getByRole('status').textContent()).startsWith('Failed'), 'a screen reader is told')
  const poor = await panel.evaluate(contrasts)
  expect(poor.length === 0, 'contrast of 4.5:1', poor)
}

/** In the page: texts whose contrast with what is painted below them is less than 4.5:1. */
function contrasts(root) {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true })
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1)
    canvas.fillStyle = colour
    canvas.fillRect(0, 0, 1, 1)
    return [...canvas.getImageData(0, 0, 1, 1).data]
  }
  const light = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((each) => (each / 255 <= 0.04045 ? each / 255 / 12.92 : ((each / 255 + 0.055) / 1.055) ** 2.4))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const found = rgb(getComputedStyle(each).backgroundColor)
      if (found[3] > 250) return found
    }
    return [255, 255, 255, 255]
  }
  const poor = []
  for (const element of root.querySelectorAll('*')) {
    const own = [...element.childNodes].some((each) => each.nodeType === 3 && each.textContent.trim())
    if (!own || !element.checkVisibility() || element.closest('.rf-hidden')) continue
    const [a, b] = [light(rgb(getComputedStyle(element).color)), light(ground(element))].sort((x, y) => y - x)
    const ratio = (a + 0.05) / (b + 0.05)
    if (ratio < 4.5) poor.push([element.className, element.textContent.slice(0, 30), ratio.toFixed(2)])
  }
  return poor
}

export async function is_silent_while_nothing_runs(editor) {
  await editor.load(judged(unique('silent')))
  await (await editor.panel(2)).getByText('≈ 0.10 credits per image').first().waitFor()
  editor.requests.length = 0
  await editor.in(() => new Promise((resolve) => setTimeout(resolve, 1500))) // what is looked for is that nothing happens
  const ours = editor.requests.filter((each) => each.includes('runflow'))
  expect(ours.length === 0, 'no request', ours)
}

export async function is_restored_elsewhere(editor) {
  const workflow = judged(unique('elsewhere'))
  await editor.load(workflow)
  await editor.runToTheEnd()
  await editor.panelThat(3, 'failed')
  await editor.in(() => localStorage.removeItem('RunflowEvaluate.Shown'))
  await editor.load(workflow)
  await editor.panelThat(3, 'failed')
  await editor.panelThat(2, 'failed')
}

export async function works_in_a_subgraph(editor) {
  await editor.load(judged(unique('inside')))
  await editor.in(() => window.app.graph.convertToSubgraph(new Set([window.app.graph.getNodeById(2)])))
  await editor.frames()
  await editor.runToTheEnd()
  await editor.panelThat(3, 'failed')
  await editor.in(() => {
    const host = window.app.graph.nodes.find((node) => node.subgraph)
    window.app.canvas.openSubgraph(host.subgraph, host)
  })
  await editor.page.waitForFunction(() => [...document.querySelectorAll('.rf-panel[data-outcome="failed"]')].some((each) => each.getBoundingClientRect().width > 100))
  editor.troubles.splice(0, Infinity, ...editor.troubles.filter((each) => !each.includes('cleanup event listeners'))) // frontend 1.32's own
}
