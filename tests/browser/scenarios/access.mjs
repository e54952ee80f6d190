/** Who reads with the keyboard, a screen reader, or in another palette. */
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { expect, until } from '../editor.mjs'
import { generated, judged, unique } from '../workflows.mjs'

const OURS = ['.rf-panel', '.rf-inspector', '.rf-page']
const PALETTES = ['light', 'solarized', 'arc', 'nord', 'github']
/** What is about whole pages, and not about parts of one. */
const NOT_OURS = ['region', 'landmark-unique', 'page-has-heading-one']

/** axe, as a script for the page. */
export const source = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

/** Of those rules, or of all. */
export async function violations(editor, only = null) {
  return editor.in(async ([roots, off, wanted]) => {
    const include = roots.filter((each) => [...document.querySelectorAll(each)].some((one) => one.checkVisibility())).map((each) => [each])
    const rules = Object.fromEntries(off.map((each) => [each, { enabled: false }]))
    const asked = wanted ? { runOnly: wanted } : { rules }
    const found = await window.axe.run({ include }, { ...asked, resultTypes: ['violations'] })
    return found.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html.slice(0, 120)} ${failureSummary.slice(0, 160)}`).slice(0, 3).join(' | ')}`)
  }, [OURS, NOT_OURS, only])
}

const none = (found) => found.length === 0

/** In that palette, as soon as it is seen: each has another ground. */
async function paint(editor, palette) {
  const ground = () => editor.in(() => getComputedStyle(document.querySelector('.rf-panel')).backgroundColor)
  const before = await ground()
  await editor.in((each) => window.app.extensionManager.setting.set('Comfy.ColorPalette', each), palette)
  await editor.page.waitForFunction((old) => getComputedStyle(document.querySelector('.rf-panel')).backgroundColor !== old, before)
}

/** Panels, inspector and history, in all palettes: of these only the colours differ. */
export async function has_no_violation(editor) {
  await editor.load(generated(unique('looked at'), { evaluate: true, batch: 2 }))
  await editor.runToTheEnd()
  await editor.command('Workspace.ToggleSidebarTab.runflow-evaluate')
  await editor.page.locator('.rf-history-row').first().waitFor()
  const inspector = await editor.details(6, 'failed')
  await inspector.locator('.rf-judge').first().waitFor()
  await inspector.getByRole('button', { name: 'No, the verdict is wrong' }).click()
  await editor.page.evaluate(source)
  await until(() => violations(editor), none, 'no violation')
  for (const palette of PALETTES) {
    await paint(editor, palette)
    await until(() => violations(editor, ['color-contrast']), none, `no violation in ${palette}`)
  }
  await paint(editor, editor.palette)
  await inspector.getByRole('button', { name: 'Close' }).click()
  await editor.command('Workspace.ToggleSidebarTab.runflow-evaluate')
  const small = () => editor.in(() => [...document.querySelectorAll('.rf-panel :is(button, [role=option]), .rf-inspector button')].filter((each) => each.checkVisibility() && (each.offsetWidth < 24 || each.offsetHeight < 24)).map((each) => each.outerHTML.slice(0, 80)))
  await until(small, none, 'targets of 24 px')
}

export async function works_by_keyboard(editor) {
  await editor.load(judged(unique('keyboard')))
  await editor.runToTheEnd()
  const panel = await editor.panelThat(3, 'failed')
  const focused = (button) => button.evaluate((each) => each === document.activeElement)
  const details = panel.getByRole('button', { name: 'Details' })
  const inspector = editor.page.locator('.rf-inspector')
  await until(async () => {
    await details.focus()
    await editor.frames(20) // Vue nodes are drawn anew at the end of a run, on a busy machine late
    if (await focused(details)) await editor.page.keyboard.press('Enter')
    await editor.frames()
    return inspector.isVisible()
  }, Boolean, 'Enter on Details opens the inspector')
  const close = inspector.getByRole('button', { name: 'Close' })
  await close.waitFor()
  await until(() => focused(close), Boolean, 'the focus goes in')
  for (const part of ['.rf-judge', '.rf-rating']) await inspector.locator(part).first().waitFor() // read from the journal
  expect(await focused(close), 'and stays there when the journal was read')
  const order = []
  for (let step = 0; step < 9; step++) {
    await editor.page.keyboard.press('Tab')
    order.push(await editor.in(() => document.activeElement.closest('.rf-inspector') && (document.activeElement.dataset.focus ?? document.activeElement.tagName)))
  }
  const wanted = ['image', 'use', 'copy-prompt', 'SUMMARY', 'SUMMARY', 'rate-good', 'rate-bad', 'copy-Text', 'copy-Markdown']
  expect(order.filter((each) => wanted.includes(each)).join() === wanted.join(), 'every action, in an order that makes sense', order)
  await editor.page.keyboard.press('Escape')
  await until(() => focused(details), Boolean, 'and the focus comes back')
  const regions = () => editor.in(() => [...document.querySelectorAll('[role=status][aria-live]')].filter((each) => each.classList.contains('rf-hidden')).map((each) => each.textContent))
  await until(regions, (found) => found.length === 1 && found[0].includes('Failed'), 'one live region, where a screen reader is told')
}

/** Often enough that a task which only waited for the processor was in time once: one that is long is never. */
const ROUNDS = 40

/** Many Evaluate, each with a Show Verdict: the milliseconds that the longest task takes when nothing disturbs it. */
export async function stays_smooth(editor, { count, within }) {
  const nodes = []
  const links = []
  for (let n = 0; n < count; n++) {
    const one = judged(`many ${n}`)
    for (const node of one.nodes) nodes.push({ ...node, id: node.id + 3 * n, pos: [node.pos[0], node.pos[1] + 600 * n], inputs: node.inputs.map((each) => ({ ...each, link: each.link && each.link + 2 * n })), outputs: node.outputs.map((each) => ({ ...each, links: each.links?.map((link) => link + 2 * n) ?? null })) })
    links.push(...one.links.map(([id, a, b, c, d, type]) => [id + 2 * n, a + 3 * n, b, c + 3 * n, d, type]))
  }
  await editor.load({ ...judged('many'), nodes, links, last_node_id: 3 * count, last_link_id: 2 * count })
  await editor.page.waitForFunction((all) => document.querySelectorAll('.rf-panel[data-outcome]').length >= all, count)
  await editor.frames(20)
  let least = Infinity
  for (let round = 0; round < ROUNDS && least >= within; round++) least = Math.min(least, await longest(editor))
  return least
}

/** Milliseconds of the longest task of the pack's own timers after a change of the graph, with what awaits it. */
function longest(editor) {
  return editor.in(async () => {
    let [most, ran] = [0, 0]
    const original = window.setTimeout
    const measured = (act) => (...args) => {
      const [began, { port1, port2 }] = [performance.now(), new MessageChannel()]
      port1.onmessage = () => {
        most = Math.max(most, performance.now() - began)
        port1.close()
      }
      port2.postMessage('the task is over')
      ran++
      act(...args)
    }
    window.setTimeout = (act, ...given) => original(/runflow/i.test(new Error().stack) ? measured(act) : act, ...given)
    window.comfyAPI.api.api.dispatchCustomEvent('graphChanged')
    for (let before = -1; before !== ran;) {
      before = ran
      await new Promise((go) => original(go, 200))
    }
    window.setTimeout = original
    if (!ran) throw new Error('nothing was drawn')
    return most
  })
}
