/** The example for App mode of newer frontends, as a person meets it. */
import { readFileSync } from 'node:fs'
import { expect } from '../editor.mjs'

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

/** The tour that App mode offers at first, and what ComfyUI says of versions. */
export async function closeGreetings(page) {
  const skip = page.getByRole('button', { name: 'Skip', exact: true })
  await skip.click({ timeout: 5000 }).catch(() => {})
  for (const close of await page.locator('.p-toast-close-button').all()) await close.click()
  await page.locator('.p-toast-message').first().waitFor({ state: 'detached' }).catch(() => {})
}

export async function shows_its_verdict(editor) {
  await inAppMode(editor)
  const fields = editor.page.locator('[data-testid=linear-widgets]').first()
  const asked = await fields.innerText()
  expect(/what must be right/i.test(asked), 'what must be right is asked for', asked)
  const drawn = await editor.page.locator('img[src*="verdict-"]').first().evaluate((image) => image.naturalWidth > 0)
  expect(drawn, 'the card can be seen')
  await closeGreetings(editor.page)
  await editor.command(LEAVE)
}
