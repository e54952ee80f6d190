/** A person is the judge: what waits for an answer is shown, answered, and put away. */
import { expect } from '../editor.mjs'
import { judged, unique } from '../workflows.mjs'

const dialog = (editor) => editor.page.getByRole('dialog', { name: 'Is this image right?' })

async function asked(editor, prompt) {
  await editor.load(judged(prompt, { judge: 'person', image: 'coffee.jpg' }))
  await (await editor.panel(2)).getByText('Free: the Run stops here and asks you').first().waitFor()
  await editor.run()
  const shown = dialog(editor)
  await shown.waitFor()
  await editor.page.waitForFunction(() => document.querySelector('.rf-asked')?.naturalWidth > 0)
  return shown
}

export async function accepts(editor, { picture }) {
  const shown = await asked(editor, unique('a cup of coffee'))
  await (await editor.panelThat(2, 'waiting')).getByText('waiting for your answer').first().waitFor()
  if (picture) await editor.page.screenshot({ path: picture })
  const { width, height } = editor.page.viewportSize()
  const box = await shown.boundingBox()
  expect(box.x >= 0 && box.y >= 0 && box.x + box.width <= width && box.y + box.height <= height, 'all of it can be seen', box)
  await editor.page.waitForTimeout(500)
  await editor.page.keyboard.press('a')
  await shown.waitFor({ state: 'detached' })
  const panel = await editor.panelThat(3, 'passed')
  await panel.getByText('judged by you').first().waitFor()
}

export async function rejects_with_a_reason(editor) {
  const prompt = unique('a hand')
  const shown = await asked(editor, prompt)
  await shown.getByLabel('What is wrong (optional)').fill('six fingers')
  await shown.getByLabel('Prompt for the next try').fill(`${prompt}, five fingers`)
  await shown.getByRole('button', { name: 'Reject (R)' }).click()
  await shown.waitFor({ state: 'detached' })
  const inspector = await editor.details(3, 'failed')
  const said = await inspector.evaluate((each) => each.textContent)
  for (const each of ['six fingers', 'five fingers']) expect(said.includes(each), `${each} is shown`, said)
  await inspector.getByRole('button', { name: 'Close' }).press('Escape')
}

/** Put aside, found again after a reload, cancelled: nothing is left on the page. */
export async function cancels(editor) {
  const shown = await asked(editor, unique('a boat'))
  await shown.getByRole('button', { name: 'Later' }).click()
  await shown.waitFor({ state: 'detached' })
  await editor.reload()
  await dialog(editor).waitFor()
  await editor.in(() => window.comfyAPI.api.api.interrupt(null))
  await dialog(editor).waitFor({ state: 'detached' })
  await (await editor.panelThat(2, 'stopped')).getByText('Cancelled').first().waitFor()
}
