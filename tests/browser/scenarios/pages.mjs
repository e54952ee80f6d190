/** The sidebar and the settings page. */
import { atRest, expect, until } from '../editor.mjs'
import { judged, unique } from '../workflows.mjs'

const TAB = 'Workspace.ToggleSidebarTab.runflow-evaluate'

async function history(editor) {
  await editor.command(TAB)
  await editor.page.locator('.rf-history-row, .rf-history p:not(:empty)').first().waitFor()
  return editor.page.locator('.rf-history')
}

async function closes(editor) {
  await editor.command(TAB)
  await editor.page.locator('.rf-history').waitFor({ state: 'detached' })
}

const isFocused = (locator, message) => until(() => locator.evaluate((each) => each === document.activeElement), Boolean, message)
const holds = (field, value, message) => until(() => field.inputValue(), (now) => now === value, message)

export async function history_lists(editor, { prompt }) {
  await editor.load(judged(prompt))
  await editor.runToTheEnd()
  await editor.panelThat(2, 'failed')
  const page = await history(editor)
  await page.getByRole('searchbox').fill(prompt)
  await page.locator('.rf-list-item').nth(1).waitFor({ state: 'detached' })
  await page.getByText(prompt).first().waitFor()
  const verdict = page.getByRole('combobox', { name: 'Filter by verdict' })
  await verdict.selectOption('passed')
  await page.getByText('Nothing matches.').first().waitFor()
  await verdict.selectOption('failed')
  await page.locator('.rf-history-row').first().waitFor()
  const downloads = editor.page.waitForEvent('download')
  await page.getByRole('button', { name: 'Save as CSV' }).click()
  const stream = await (await downloads).createReadStream()
  const csv = (await stream.toArray()).join('')
  expect(csv.includes(prompt) && csv.split('\r\n').length === 3, 'the file has what is listed', csv)
  await page.locator('.rf-history-row').first().click()
  const inspector = editor.page.locator('.rf-inspector')
  await inspector.getByText('six fingers').first().waitFor()
  await inspector.getByText(/^answered by the sandbox/).waitFor()
  const thumb = inspector.getByRole('button', { name: 'Yes, the verdict is right' })
  await thumb.focus()
  await editor.page.keyboard.press('Enter')
  await page.locator('.rf-chip', { hasText: 'Rated right' }).first().waitFor()
  await isFocused(thumb, 'a rating keeps the focus')
  await inspector.getByRole('button', { name: 'Close' }).press('Enter')
  const row = page.locator('.rf-history-row').first()
  await isFocused(row, 'closing it goes back to the row')
  await row.press('2')
  await page.locator('.rf-chip', { hasText: 'Rated wrong' }).first().waitFor()
  await closes(editor)
  await history(editor)
  await holds(page.getByRole('searchbox'), prompt, 'what is asked for is still in its fields')
  await holds(page.getByRole('combobox', { name: 'Filter by verdict' }), 'failed', 'and so is the filter')
  await page.getByRole('button', { name: 'Clear filters' }).click()
  await page.locator('.rf-history-row').first().waitFor()
  await reads_saved_images(editor, page, inspector)
  await closes(editor)
}

/** One whose evaluation this history has, and one from elsewhere. */
async function reads_saved_images(editor, page, inspector) {
  const id = await editor.in(async () => {
    const answer = await fetch('api/runflow-evaluate/history?limit=1')
    return (await answer.json()).rows[0].id
  })
  for (const [each, searched] of [[id, id], ['ev-elsewhere', '']]) {
    const buffer = savedAs({ id: each, verdict: 'failed', judge: 'runflow', score: 0.3, issues: ['seven fingers'] })
    await page.locator('input[type=file]').setInputFiles({ name: 'saved.png', mimeType: 'image/png', buffer })
    await inspector.getByText('seven fingers').first().waitFor()
    await inspector.getByText('As the file says').first().waitFor()
    await holds(page.getByRole('searchbox'), searched, `a known one is looked for: ${each}`)
    await inspector.getByRole('button', { name: 'Close' }).press('Enter')
    if (searched) await page.getByRole('button', { name: 'Clear filters' }).click()
  }
}

/** A PNG with what Save Judged Images writes into it, and no pixels: nothing here looks at them. */
function savedAs(record) {
  const body = Buffer.from(`tEXtrunflow_verdict\0${JSON.stringify(record)}`, 'latin1')
  const length = Buffer.alloc(4)
  length.writeUInt32BE(body.length - 4)
  return Buffer.concat([Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]), length, body, Buffer.alloc(4)])
}

export async function history_of_thousands(editor, { count }) {
  const page = await history(editor)
  await page.locator('.rf-history-row').first().waitFor()
  const seen = await editor.in(async (wanted) => {
    const list = document.querySelector('.rf-list')
    let most = 0
    const shown = () => list.querySelector('.rf-list-inner').clientHeight / 66
    for (let round = 0; round < 3000 && shown() < wanted; round++) {
      list.scrollTop = list.scrollHeight
      await new Promise(requestAnimationFrame)
      most = Math.max(most, list.querySelectorAll('.rf-history-row').length)
    }
    list.scrollTop = list.scrollHeight / 2
    await new Promise(requestAnimationFrame)
    return { rows: shown(), most }
  }, count)
  expect(seen.rows >= count, 'every row can be reached', seen)
  expect(seen.most < 60, 'only what is in sight is in the page', seen)
  await keepsThePlace(editor, page)
  await closes(editor)
}

/** A run ends while somebody reads further down, and while an evaluation is open. */
async function keepsThePlace(editor, page) {
  const place = () => editor.in(() => [document.querySelector('.rf-list').scrollTop, document.querySelector('.rf-list-inner').clientHeight])
  const before = await atRest(editor, place)
  await editor.load(judged(unique('meanwhile')))
  await editor.runToTheEnd()
  await page.getByText('There are newer evaluations').first().waitFor()
  expect((await place()).join() === before.join(), 'nothing moves', [before, await place()])
  await page.locator('.rf-said').getByRole('button').click()
  await page.getByText('meanwhile').first().waitFor()
  await page.locator('.rf-list').evaluate((list) => { list.scrollTop = 500 })
  await page.locator('.rf-history-row', { hasText: 'meanwhile' }).first().waitFor({ state: 'detached' })
  await page.locator('.rf-list').evaluate((list) => { list.scrollTop = 0 })
  await page.locator('.rf-history-row', { hasText: 'meanwhile' }).first().click()
  await editor.page.locator('.rf-inspector').getByRole('button', { name: 'Close' }).press('Enter')
}

async function settings(editor) {
  await editor.command('Comfy.ShowSettingsDialog')
  await editor.page.getByText('Runflow Evaluate', { exact: true }).first().click()
  await editor.page.locator('.rf-setting').first().waitFor()
  return editor.page.locator('.rf-setting')
}

export async function settings_keep_the_key_secret(editor, { key }) {
  editor.excuse(/status of 400 .*settings/) // what is refused
  const boxes = await settings(editor)
  await boxes.getByText('No key is set').first().waitFor()
  await boxes.getByLabel('Runflow API key').fill(key)
  await boxes.getByRole('button', { name: 'Save' }).click()
  await boxes.getByText(`…${key.slice(-4)}`).first().waitFor()
  await boxes.getByRole('button', { name: 'Check' }).click()
  await boxes.getByText(/The key works\. .*balance: [\d.]+ credits/).first().waitFor()
  const wide = () => boxes.evaluateAll((all) => all.map((each) => each.offsetWidth))
  await until(wide, (all) => Math.max(...all) < 400, 'a long account leaves the page its width')
  expect(!(await editor.page.content()).includes(key), 'the page does not hold the key')
  expect(!(await editor.in(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]))).includes(key), 'nor does the browser')
  const stored = await (await editor.context.request.get(`${editor.url}/settings`)).text()
  expect(!stored.includes(key), 'nor do ComfyUI’s settings')
  const perRun = boxes.getByLabel('Evaluations per Run, at most')
  const saved = editor.page.waitForResponse(/runflow-evaluate\/settings/)
  await perRun.fill('5')
  await perRun.blur()
  await saved
  await perRun.fill('1.5')
  await perRun.blur()
  await editor.page.getByText('max_evaluations_per_prompt: 1.5 is not a whole number between 0 and 100000. Nothing was saved.').first().waitFor()
  await holds(perRun, '5', 'what is refused gives way to what is in force')
  await boxes.getByRole('button', { name: 'Remove' }).click()
  const sure = editor.page.getByRole('dialog').filter({ hasText: 'forgets the key' }).last()
  await sure.getByRole('button', { name: 'Cancel' }).click()
  await boxes.getByText(`…${key.slice(-4)}`).first().waitFor()
  await boxes.getByRole('button', { name: 'Remove' }).click()
  await sure.getByRole('button', { name: 'Confirm' }).click()
  await boxes.getByText('No key is set').first().waitFor()
  await editor.page.keyboard.press('Escape')
}
