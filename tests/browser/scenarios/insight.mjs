/** What the journal tells, and what a person says of many images. */
import { expect } from '../editor.mjs'
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
  const onPage = await violations(editor)
  expect(onPage.length === 0, 'no violation on the page', onPage)

  const opens = editor.page.getByRole('button', { name: 'Rate images' })
  await opens.press('Enter')
  const dialog = editor.page.getByRole('dialog', { name: 'Rate images' })
  await dialog.getByText(/^Image 1 of \d+$/).waitFor()
  await dialog.locator('img').evaluate((image) => image.decode())
  expect(!(await dialog.textContent()).includes(judge), 'nobody is led', await dialog.textContent())
  const inDialog = await violations(editor)
  expect(inDialog.length === 0, 'no violation in the dialog', inDialog)
  await editor.page.keyboard.press('1')
  await dialog.getByText(`You: good. ${judge}: `).waitFor()
  await editor.page.keyboard.press('2')
  await dialog.getByText(`You: bad. ${judge}: `).waitFor()
  await dialog.getByText(/^Image 3 of/).waitFor()
  await editor.page.keyboard.press('Escape')
  await dialog.waitFor({ state: 'detached' })
  expect(await opens.evaluate((each) => each === document.activeElement), 'the focus comes back')
  await page.getByText(`rated ${good + 1} good, ${bad + 1} bad`).first().waitFor()
  expect((await rated(page, judge)).join() === [good + 1, bad + 1].join(), 'both ratings count', await rated(page, judge))
  await editor.page.getByRole('combobox', { name: 'And by' }).selectOption('')
  await editor.command(TAB)
}
