/** The editor in another language: nodes, settings, panel and history speak it too. */
import { until } from '../editor.mjs'
import { judged, unique } from '../workflows.mjs'

/** Open the editor in that language. The next scenario gets a page of its own, in English. */
async function speak(editor, language) {
  editor.spent = true
  editor.language = language
  await editor.visit()
}

export async function speaks(editor, { language, node, panel }) {
  await speak(editor, language)
  await names_nodes_and_settings(editor, node)
  await shows_a_verdict(editor, panel)
}

async function shows_a_verdict(editor, { idle, passed, more, strengths, ago }) {
  await editor.load(judged(unique('words')))
  await (await editor.panelThat(2, 'idle')).getByText(idle).first().waitFor()
  await editor.runToTheEnd()
  const panel = await editor.panelThat(3, 'passed')
  await panel.locator('.rf-pill', { hasText: passed }).first().waitFor()
  await panel.getByRole('button', { name: more }).click()
  const inspector = editor.page.locator('.rf-inspector')
  await inspector.getByText(strengths, { exact: true }).first().waitFor()
  await editor.page.keyboard.press('Escape')
  await editor.command('Workspace.ToggleSidebarTab.runflow-evaluate')
  const row = editor.page.locator('.rf-history-row').first()
  await until(() => row.innerText(), (text) => new RegExp(ago).test(text), 'when it was')
}

/** Another language needs no reload, and a variant of one that the pack has is that one. */
export async function changes_at_once(editor, { steps }) {
  editor.spent = true // frontends load the workflow anew in another language, some time after
  await editor.load(judged(unique('changes')))
  await editor.panelThat(3, 'idle')
  for (const [language, idle] of steps) {
    await editor.in((each) => void window.app.extensionManager.setting.set('Comfy.Locale', each), language)
    // Newer frontends make the nodes anew when they load a language.
    await editor.page.waitForFunction((said) => [...document.querySelectorAll('.rf-panel .rf-pill')].some((each) => each.textContent.includes(said)), idle)
  }
}

async function names_nodes_and_settings(editor, { title, inputs, outputs, settings }) {
  const node = () => editor.in(() => {
    const made = window.LiteGraph.createNode('RunflowEvaluateImage')
    const names = (sockets) => sockets.map((each) => each.localized_name).sort()
    return { title: made.title, inputs: names(made.inputs), outputs: names(made.outputs) }
  })
  const isNamed = (made) => made.title === title && `${made.inputs}` === `${inputs}` && `${made.outputs}` === `${outputs}`
  await until(node, isNamed, 'its title, its inputs and outputs')
  await editor.command('Comfy.ShowSettingsDialog')
  await editor.page.getByText('Runflow Evaluate', { exact: true }).first().click()
  for (const wanted of settings) await editor.page.getByText(wanted, { exact: true }).first().waitFor()
  await editor.page.keyboard.press('Escape')
}
