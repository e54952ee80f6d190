/** What the journal tells, and what a person says of many images. */
import { expect, until } from '../editor.mjs'
import { source, violations } from './access.mjs'

const TAB = 'Workspace.ToggleSidebarTab.runflow-evaluate-insight'

/** Ratings of that judge so far: [good, bad]. */
async function rated(page, judge) {
  const text = await page.locator('.rf-group', { hasText: `${judge} · all tasks` }).textContent()
  return text.match(/rated (\d+) good, (\d+) bad/).slice(1).map(Number)
}

export async function a_rating_by_key_changes_it(editor, { judge, checkpoint }) {
  await editor.command(TAB)
  const page = editor.page.locator('.rf-insight')
  await page.locator('.rf-group', { hasText: checkpoint }).getByText(/\d+ verdicts · mean score 0\.\d\d/).waitFor()
  const [good, bad] = await rated(page, judge)
  await editor.page.getByRole('combobox', { name: 'And by' }).selectOption('sampler')
  await page.getByRole('row', { name: checkpoint }).getByText('%').first().waitFor()
  await editor.page.evaluate(source)
  const none = (found) => found.length === 0
  await until(() => violations(editor), none, 'no violation on the page')

  const opens = editor.page.getByRole('button', { name: 'Rate images' })
  await opens.press('Enter')
  const dialog = editor.page.getByRole('dialog', { name: 'Rate images' })
  await dialog.getByText(/^Image 1 of \d+$/).waitFor()
  await dialog.locator('img').evaluate((image) => image.decode())
  expect(!(await dialog.textContent()).includes(judge), 'nobody is led', await dialog.textContent())
  await until(() => violations(editor), none, 'no violation in the dialog')
  await editor.page.keyboard.press('1')
  await dialog.getByText(new RegExp(`You: good\\. .*${judge}: `)).waitFor()
  await editor.page.keyboard.press('2')
  await dialog.getByText(new RegExp(`You: bad\\. .*${judge}: `)).waitFor()
  await dialog.getByText(/^Image 3 of/).waitFor()
  await editor.page.keyboard.press('Escape')
  await dialog.waitFor({ state: 'detached' })
  await until(() => opens.evaluate((each) => each === document.activeElement), Boolean, 'the focus comes back')
  await page.getByText(`rated ${good + 1} good, ${bad + 1} bad`).first().waitFor()
  await until(() => rated(page, judge), (now) => now.join() === [good + 1, bad + 1].join(), 'both ratings count')
  await editor.page.getByRole('combobox', { name: 'And by' }).selectOption('')
  await editor.command(TAB)
}
