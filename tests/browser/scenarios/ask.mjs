/** A person is the judge: what waits for an answer is shown, answered, and put away. */
import { Editor, expect, until } from '../editor.mjs'
import { generated, judged, unique } from '../workflows.mjs'

/** A key within an instant is no answer: nobody can have meant it. */
const MEANT_MS = 500

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
  const isInside = (box) => box.x >= 0 && box.y >= 0 && box.x + box.width <= width && box.y + box.height <= height
  await until(() => shown.boundingBox(), isInside, 'all of it can be seen')
  await editor.page.waitForTimeout(MEANT_MS)
  await editor.page.keyboard.press('a')
  await shown.waitFor({ state: 'detached' })
  const panel = await editor.panelThat(3, 'passed')
  await panel.getByText('judged by you').first().waitFor()
}

export async function rejects_with_a_reason(editor) {
  const prompt = unique('a hand')
  const shown = await asked(editor, prompt)
  await shown.getByLabel('What is wrong (optional)').fill('six fingers')
  await shown.getByLabel('Prompt for the next attempt').fill(`${prompt}, five fingers`)
  await shown.getByRole('button', { name: 'Reject (R)' }).click()
  await shown.waitFor({ state: 'detached' })
  const inspector = await editor.details(3, 'failed')
  const said = () => inspector.evaluate((each) => each.textContent)
  await until(said, (text) => ['six fingers', 'five fingers'].every((each) => text.includes(each)), 'what was said is shown')
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
  await editor.page.getByText('The Run was cancelled, so this question is closed.').first().waitFor()
  await (await editor.panelThat(2, 'stopped')).getByText('Cancelled').first().waitFor()
}

/** Image by image with keys, then all that are left at once. */
export async function goes_through_a_batch(editor) {
  const workflow = generated(unique('a boat'), { batch: 3, evaluate: true })
  workflow.nodes.find(({ id }) => id === 5).widgets_values[2] = 'person'
  await editor.load(workflow)
  await editor.panel(6)
  await editor.run()
  const shown = dialog(editor)
  await shown.getByText('Image 1 of 3').waitFor()
  await shown.getByRole('button', { name: 'Accept all 3' }).waitFor()
  await editor.page.waitForTimeout(MEANT_MS)
  await editor.page.keyboard.press('r')
  await shown.getByText('Image 2 of 3').waitFor()
  await editor.page.waitForTimeout(MEANT_MS)
  await editor.page.keyboard.press('Escape')
  await shown.waitFor({ state: 'detached' })
  await editor.reload()
  await shown.getByText('Image 2 of 3').waitFor()
  await shown.getByRole('button', { name: 'Accept all 2' }).click()
  await shown.waitFor({ state: 'detached' })
  await (await editor.panelThat(6, 'failed')).getByText('judged by you').first().waitFor()
}

/** The tab that asked is closed: the others ask, with a notification where nobody looks; one answers for all. */
export async function goes_to_other_tabs(editor) {
  const { context, url, renderer, palette } = editor
  await context.grantPermissions(['notifications'], { origin: new URL(url).origin })
  await editor.in(() => {
    const Real = window.Notification
    window.notified = []
    window.Notification = class extends Real {
      constructor(title, more) {
        super(title, more)
        window.notified.push(title)
      }
    }
    Object.defineProperty(document, 'hidden', { value: true, configurable: true })
  })
  const asking = await Editor.open(context, url, renderer, palette)
  await asked(asking, unique('a kite'))
  expect((await dialog(editor).count()) === 0, 'only the tab that asked shows the question')
  const third = await Editor.open(context, url, renderer, palette)
  await asking.page.close()
  for (const each of [editor, third]) await dialog(each).waitFor()
  await until(() => editor.in(() => window.notified.join()), (each) => each === 'Is this image right?', 'a notification')
  await dialog(third).getByRole('button', { name: 'Accept (A)' }).click()
  for (const each of [third, editor]) await dialog(each).waitFor({ state: 'detached' })
  await editor.page.getByText('This question was answered in another tab.').first().waitFor()
  await third.page.close()
  await editor.in(() => delete document.hidden)
}
