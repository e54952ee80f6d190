/** The example for App mode of newer frontends, as a person meets it. */
import { readFileSync } from 'node:fs'
import { until } from '../editor.mjs'

const APP = JSON.parse(readFileSync(new URL('../../../example_workflows/verdict_app.json', import.meta.url)))
const LEAVE = 'Comfy.ToggleLinear'

/** Open it, run it, and wait for its card. */
export async function inAppMode(editor) {
  await editor.in((app) => {
    app.nodes[0].widgets_values[0] = 'coffee.jpg'
    return window.app.loadGraphData(app, true, true, 'verdict_app')
  }, APP)
  await editor.page.locator('[data-testid=linear-widgets]').first().waitFor()
  await editor.runToTheEnd()
  await editor.page.locator('img[src*="verdict-"]').first().waitFor()
}

/** The tour that App mode may offer at first, and what ComfyUI says in its corner: they are not what is looked at. */
export async function closeGreetings(editor) {
  const { page } = editor
  const skip = page.getByRole('button', { name: 'Skip', exact: true })
  await skip.click({ timeout: 5000 }).catch(() => {})
  const countToasts = async () => {
    await editor.closeToasts()
    return page.locator('.p-toast-message:visible').count()
  }
  await until(countToasts, (count) => count === 0, 'no toast is left')
}

export async function shows_its_verdict(editor) {
  await inAppMode(editor)
  const fields = editor.page.locator('[data-testid=linear-widgets]').first()
  await until(() => fields.innerText(), (asked) => /what must be right/i.test(asked), 'what must be right is asked for')
  await until(() => editor.page.locator('img[src*="verdict-"]').first().evaluate((image) => image.naturalWidth), (width) => width > 0, 'the card can be seen')
  await closeGreetings(editor)
  await editor.command(LEAVE)
}
