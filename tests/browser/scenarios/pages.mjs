/** The sidebar and the settings page. */
import { expect } from '../editor.mjs'
import { judged } from '../workflows.mjs'

const TAB = 'Workspace.ToggleSidebarTab.runflow-evaluate'

async function history(editor) {
  if (!(await editor.page.locator('.rf-history').count())) await editor.command(TAB)
  await editor.page.locator('.rf-history-row, .rf-history p:not(:empty)').first().waitFor()
  return editor.page.locator('.rf-history')
}

export async function history_lists(editor, { prompt }) {
  await editor.load(judged(prompt))
  await editor.runToTheEnd()
  await editor.panelThat(2, 'failed')
  const page = await history(editor)
  await page.getByRole('searchbox').fill(prompt)
  await page.locator('.rf-list-item').nth(1).waitFor({ state: 'detached' })
  await page.getByText(prompt).first().waitFor()
  await page.getByRole('combobox').selectOption('passed')
  await page.getByText('Nothing matches.').first().waitFor()
  await page.getByRole('combobox').selectOption('failed')
  const downloads = editor.page.waitForEvent('download')
  await page.getByRole('button', { name: 'Save as CSV' }).click()
  const stream = await (await downloads).createReadStream()
  const csv = (await stream.toArray()).join('')
  expect(csv.includes(prompt) && csv.split('\r\n').length === 3, 'the file has what is listed', csv)
  await page.locator('.rf-history-row').first().click()
  await page.getByText('six fingers').first().waitFor()
  await page.getByRole('button', { name: 'Yes, the verdict is right' }).click()
  await page.getByText('Rated right').first().waitFor()
  await page.getByRole('button', { name: 'Show on the node' }).click()
  await (await editor.panel(2)).getByRole('button', { name: 'Close' }).first().waitFor()
  await editor.command(TAB)
}

export async function history_of_thousands(editor, { count }) {
  const page = await history(editor)
  await page.locator('.rf-history-row').first().waitFor()
  const seen = await editor.in(async (wanted) => {
    const list = document.querySelector('.rf-list')
    const frames = []
    let most = 0
    const shown = () => list.querySelector('.rf-list-inner').clientHeight / 62
    for (let round = 0; round < 3000 && shown() < wanted; round++) {
      const began = performance.now()
      list.scrollTop = list.scrollHeight
      await new Promise(requestAnimationFrame)
      frames.push(performance.now() - began)
      most = Math.max(most, list.querySelectorAll('.rf-history-row').length)
    }
    list.scrollTop = list.scrollHeight / 2
    await new Promise(requestAnimationFrame)
    const began = performance.now()
    for (let step = 0; step < 60; step++) {
      list.scrollTop += 120
      await new Promise(requestAnimationFrame)
    }
    return { rows: shown(), most, perFrame: (performance.now() - began) / 60 }
  }, count)
  expect(seen.rows >= count, 'every row can be reached', seen)
  expect(seen.most < 60, 'only what is in sight is in the page', seen)
  await editor.command(TAB)
  return seen
}

async function settings(editor) {
  await editor.command('Comfy.ShowSettingsDialog')
  await editor.page.getByText('Runflow Evaluate', { exact: true }).first().click()
  await editor.page.locator('.rf-setting').first().waitFor()
  return editor.page.locator('.rf-setting')
}

export async function settings_keep_the_key_secret(editor, { key }) {
  const boxes = await settings(editor)
  await boxes.getByText('No key is set').first().waitFor()
  await boxes.getByLabel('Runflow API key').fill(key)
  await boxes.getByRole('button', { name: 'Save' }).click()
  await boxes.getByText(`…${key.slice(-4)}`).first().waitFor()
  await boxes.getByRole('button', { name: 'Check' }).click()
  await boxes.getByText(/The key works\. .*balance: [\d.]+ credits/).first().waitFor()
  expect(!(await editor.page.content()).includes(key), 'the page does not hold the key')
  expect(!(await editor.in(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]))).includes(key), 'nor does the browser')
  const stored = await (await editor.context.request.get(`${editor.url}/settings`)).text()
  expect(!stored.includes(key), 'nor do ComfyUI’s settings')
  const perRun = boxes.getByLabel('Evaluations per Run, at most')
  await perRun.fill('5')
  await perRun.blur()
  await boxes.locator('input[value="5"]').first().waitFor()
  await boxes.getByRole('button', { name: 'Remove' }).click()
  await boxes.getByText('No key is set').first().waitFor()
  await editor.page.keyboard.press('Escape')
}
