/** The pack's page: registers what ComfyUI's editor shows of it, and waits for nothing. The rest is in `lib/`. */
import { api } from '../../scripts/api.js'
import { app } from '../../scripts/app.js'
import { open, setting } from './lib/comfy/app.mjs'
import { onSetting, remindOfTexts } from './lib/comfy/compat.mjs'
import {
  commands,
  menuItems,
  nodeCreated as gesturesFor,
  toolbox
} from './lib/gestures/commands.mjs'
import { fetchWithin } from './lib/server.mjs'
import { applyDefaults, settings } from './lib/settings/page.mjs'
import { language, onLanguage, speak, t } from './lib/text.mjs'
import { nodeCreated, restore, start } from './lib/view/node_panels.mjs'
import { followPalette } from './lib/view/theme.mjs'

const TEXTS_AGAIN_MS = 5000

open(app, api)

/** The texts, and again while they cannot be read: the page goes on without them. */
async function readTexts() {
  try {
    const answer = await (await fetchWithin('/i18n', {})).json()
    speak(answer, setting('Comfy.Locale') ?? 'en')
    onSetting('Comfy.Locale', (wanted) => speak(null, wanted))
    await remindOfTexts(language, answer[language])
  } catch (error) {
    console.debug('Runflow Evaluate: the texts could not be read', error)
    setTimeout(readTexts, TEXTS_AGAIN_MS)
  }
}

function addStyle() {
  const link = document.createElement('link')
  link.rel = 'stylesheet'
  link.href = new URL('runflow.css', import.meta.url).href
  document.head.append(link)
  followPalette()
}

function addSidebar() {
  const page = () => import('./lib/history/page.mjs')
  const tab = {
    id: 'runflow-evaluate',
    icon: 'pi pi-verified',
    title: t('history.title'),
    tooltip: t('history.title'),
    type: 'custom',
    render: async (/** @type {HTMLElement} */ parent) => (await page()).render(parent),
    destroy: async () => (await page()).destroy()
  }
  app.extensionManager.registerSidebarTab(tab)
  onLanguage(() => Object.assign(tab, { title: t('history.title'), tooltip: t('history.title') }))
}

app.registerExtension({
  name: 'runflowevaluate.editor',
  settings: settings(),
  commands: commands(),
  init() {
    addStyle()
    start()
    addSidebar()
    readTexts()
  },
  nodeCreated(/** @type {any} */ node) {
    applyDefaults(node)
    nodeCreated(node)
    gesturesFor(node)
  },
  getNodeMenuItems: menuItems,
  getSelectionToolboxCommands: toolbox,
  afterConfigureGraph: restore
})
