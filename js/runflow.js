/** The pack's page: registers what ComfyUI's editor shows of it, and waits for nothing. The rest is in `lib/`. */
import { api } from '../../scripts/api.js'
import { app } from '../../scripts/app.js'
import { open, setting } from './lib/comfy/app.mjs'
import {
  hideOutputImages,
  keepGroupedLinks,
  keepLinks,
  keepPastedLinks,
  nameNodes,
  onSetting,
  placeGroupInputs,
  remindOfTexts
} from './lib/comfy/compat.mjs'
import {
  commands,
  nodeCreated as gesturesFor,
  loadSoon,
  menuItems,
  toolbox
} from './lib/gestures/register.mjs'
import { fetchWithin } from './lib/server.mjs'
import { applyDefaults, settings } from './lib/settings/page.mjs'
import { addPanel, sizeOf } from './lib/comfy/widget.mjs'
import { onLanguage, speak, t } from './lib/text.mjs'
import { followPalette } from './lib/view/theme.mjs'

const SIDEBAR = 'runflow-evaluate'
const INSIGHT = 'runflow-evaluate-insight'
const TEXTS_AGAIN_MS = 5000

open(app, api)

let isWithoutTexts = false

/** The texts, and again while they cannot be read: the page goes on without them, and says so once. */
/** @returns {Promise<Record<string, any>>} by language; none where they could not be read */
async function readTexts() {
  try {
    const answer = await (await fetchWithin('/i18n', {})).json()
    remindOfTexts(answer)
    speak(answer, spoken())
    onSetting('Comfy.Locale', (wanted) => speak(null, wanted))
    return answer
  } catch (error) {
    console.debug('Runflow Evaluate: the texts could not be read', error)
    if (!isWithoutTexts) speak({}, 'en')
    isWithoutTexts = true
    setTimeout(readTexts, TEXTS_AGAIN_MS)
    return {}
  }
}

const spoken = () => setting('Comfy.Locale') ?? 'en'
/** @type {Promise<Record<string, any>>} */
let reading

function addStyle() {
  const link = document.createElement('link')
  link.rel = 'stylesheet'
  link.href = new URL('runflow.css', import.meta.url).href
  document.head.append(link)
  followPalette()
}

/** Its title is told anew in another language. */
function addSidebar() {
  addTab(SIDEBAR, 'pi pi-verified', t('history.title'), () => import('./lib/history/page.mjs'))
  addTab(INSIGHT, 'pi pi-chart-bar', t('insight.title'), () => import('./lib/insight/page.mjs'))
}

/** @param {string} id @param {string} icon @param {string} title @param {() => Promise<any>} page */
function addTab(id, icon, title, page) {
  const manager = app.extensionManager
  manager.unregisterSidebarTab?.(id)
  manager.registerSidebarTab({
    id,
    icon,
    title,
    tooltip: title,
    type: 'custom',
    render: async (/** @type {HTMLElement} */ parent) => (await page()).render(parent),
    destroy: async () => (await page()).destroy()
  })
}

/** @type {Promise<typeof import('./lib/view/node_panels.mjs')> | null} loaded while ComfyUI starts */
let panels = null

function loadPanels() {
  panels ??= import('./lib/view/node_panels.mjs').then((loaded) => {
    loaded.start()
    return loaded
  })
  return panels
}

/** @param {any} node */
function panelFor(node) {
  const size = sizeOf(node)
  if (node.subgraph) panels?.then((loaded) => loaded.adoptHost(node))
  if (!size) return
  hideOutputImages(node, node.comfyClass === 'RunflowRegenerateEnd')
  const element = addPanel(node, size)
  loadPanels().then((loaded) => loaded.adopt(node, element, size))
}

app.registerExtension({
  name: 'runflowevaluate.editor',
  settings: settings(),
  commands: commands(),
  init() {
    addStyle()
    onLanguage(addSidebar)
    reading = readTexts()
    loadPanels()
    loadSoon()
  },
  addCustomNodeDefs: (/** @type {any} */ definitions) => nameNodes(definitions, spoken(), reading),
  setup() {
    keepPastedLinks()
    keepGroupedLinks()
  },
  nodeCreated(/** @type {any} */ node) {
    keepLinks(node)
    placeGroupInputs(node)
    applyDefaults(node)
    panelFor(node)
    gesturesFor(node)
  },
  getNodeMenuItems: menuItems,
  getSelectionToolboxCommands: toolbox,
  afterConfigureGraph: () => {
    panels?.then((loaded) => loaded.restore())
  }
})
