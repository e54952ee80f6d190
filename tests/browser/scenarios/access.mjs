/** Who reads with the keyboard, a screen reader, or in another palette. */
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { expect } from '../editor.mjs'
import { generated, judged, unique } from '../workflows.mjs'

const OURS = ['.rf-panel', '.rf-inspector', '.rf-page']
const PALETTES = ['dark', 'light', 'solarized', 'arc', 'nord', 'github']
/** What is about whole pages, and not about parts of one. */
const NOT_OURS = ['region', 'landmark-unique', 'page-has-heading-one']

const source = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

async function violations(editor) {
  await editor.page.evaluate(source)
  return editor.in(async ([roots, off]) => {
    const include = roots.filter((each) => [...document.querySelectorAll(each)].some((one) => one.checkVisibility())).map((each) => [each])
    const rules = Object.fromEntries(off.map((each) => [each, { enabled: false }]))
    const found = await window.axe.run({ include }, { rules, resultTypes: ['violations'] })
    return found.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html.slice(0, 120)} ${failureSummary.slice(0, 160)}`).slice(0, 3).join(' | ')}`)
  }, [OURS, NOT_OURS])
}

/** Panels, inspector and history, in all palettes. */
export async function has_no_violation(editor) {
  await editor.load(generated(unique('looked at'), { evaluate: true, batch: 2 }))
  await editor.runToTheEnd()
  await editor.command('Workspace.ToggleSidebarTab.runflow-evaluate')
  await editor.page.locator('.rf-history-row').first().waitFor()
  const inspector = await editor.details(6, 'failed')
  await inspector.locator('.rf-judge').first().waitFor()
  await inspector.getByRole('button', { name: 'No, the verdict is wrong' }).click()
  for (const palette of PALETTES) {
    await editor.in((each) => window.app.extensionManager.setting.set('Comfy.ColorPalette', each), palette)
    await editor.page.waitForTimeout(500)
    const found = await violations(editor)
    expect(found.length === 0, `no violation in ${palette}`, found)
  }
  await editor.in((each) => window.app.extensionManager.setting.set('Comfy.ColorPalette', each), editor.palette)
  await inspector.getByRole('button', { name: 'Close' }).click()
  await editor.command('Workspace.ToggleSidebarTab.runflow-evaluate')
  const small = await editor.in(() => [...document.querySelectorAll('.rf-panel :is(button, [role=option]), .rf-inspector button')].filter((each) => each.checkVisibility() && (each.offsetWidth < 24 || each.offsetHeight < 24)).map((each) => each.outerHTML.slice(0, 80)))
  expect(small.length === 0, 'targets of 24 px', small)
}

export async function works_by_keyboard(editor) {
  await editor.load(judged(unique('keyboard')))
  await editor.runToTheEnd()
  const panel = await editor.panelThat(3, 'failed')
  const focused = (button) => button.evaluate((each) => each === document.activeElement)
  const details = panel.getByRole('button', { name: 'Details' })
  for (let tries = 0; tries < 20 && !(await focused(details)); tries++) {
    await details.focus()
    await editor.frames(20) // Vue nodes are drawn anew at the end of a run, on a busy machine late
  }
  await editor.page.keyboard.press('Enter')
  const inspector = editor.page.locator('.rf-inspector')
  const close = inspector.getByRole('button', { name: 'Close' })
  await close.waitFor()
  expect(await focused(close), 'the focus goes in')
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
  expect(await focused(details), 'and the focus comes back')
  const regions = await editor.in(() => [...document.querySelectorAll('[role=status][aria-live]')].filter((each) => each.classList.contains('rf-hidden')).map((each) => each.textContent))
  expect(regions.length <= 1, 'one live region', regions)
  expect(regions[0]?.includes('Failed'), 'a screen reader is told', regions)
}

/** 100 Evaluate with 100 Show Verdict: no task of ours over 50 ms, less its share on a busy machine. */
export async function stays_smooth(editor, { count }) {
  const nodes = []
  const links = []
  for (let n = 0; n < count; n++) {
    const one = judged(`many ${n}`)
    for (const node of one.nodes) nodes.push({ ...node, id: node.id + 3 * n, pos: [node.pos[0], node.pos[1] + 600 * n], inputs: node.inputs.map((each) => ({ ...each, link: each.link && each.link + 2 * n })), outputs: node.outputs.map((each) => ({ ...each, links: each.links?.map((link) => link + 2 * n) ?? null })) })
    links.push(...one.links.map(([id, a, b, c, d, type]) => [id + 2 * n, a + 3 * n, b, c + 3 * n, d, type]))
  }
  await editor.load({ ...judged('many'), nodes, links, last_node_id: 3 * count, last_link_id: 2 * count })
  await editor.page.waitForFunction((all) => document.querySelectorAll('.rf-panel[data-outcome]').length >= all, count)
  await editor.page.waitForTimeout(1500)
  return editor.in(async () => {
    const tasks = []
    const measure = (name, act) => {
      const began = performance.now()
      act()
      tasks.push([name, performance.now() - began])
    }
    const original = window.setTimeout
    window.setTimeout = (act, ms, ...given) => original((...args) => (typeof act === 'function' ? measure(String(act.name || 'anonymous'), () => act(...args)) : undefined), ms, ...given)
    window.comfyAPI.api.api.dispatchCustomEvent('graphChanged')
    await new Promise((go) => original(go, 3000))
    window.setTimeout = original
    return tasks.sort((a, b) => b[1] - a[1]).slice(0, 5)
  })
}
