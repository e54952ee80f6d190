/** The pack's page: registers what ComfyUI's editor shows of it. Everything else is in `lib/`. */
import { api } from '../../scripts/api.js'
import { app } from '../../scripts/app.js'
import { Gestures } from './lib/gestures.mjs'
import { History } from './lib/history.mjs'
import { Memory } from './lib/memory.mjs'
import { Panels } from './lib/panels.mjs'
import { Server } from './lib/server.mjs'
import { applyDefaults, settings } from './lib/settings.mjs'
import { speak, t } from './lib/text.mjs'

const server = new Server(api)
const panels = new Panels({ app, api, server, memory: new Memory(localStorage) })
const ask = (title, message) => app.extensionManager.dialog.confirm({ title, message })
const gestures = new Gestures({ app, panels, ask })
const note = (text, severity) => panels.note(text, severity)
const history = new History({ server, note, show: (id) => panels.showNode(id) })

async function readTexts() {
  const answer = await (await api.fetchApi('/i18n')).json()
  const language = app.extensionManager.setting.get('Comfy.Locale')
  speak(answer, language)
  await remind(language, answer[language])
}

/** ComfyUI's frontend 1.32 forgets packs' texts when it loads a language: it is told them again. */
async function remind(language, texts) {
  const vue = document.querySelector('#vue-app')?.__vue_app__
  const known = texts && vue?._context?.provides[vue.__VUE_I18N_SYMBOL__]?.global
  for (let left = 99; left && known && known.locale.value !== language; left--) await new Promise((go) => setTimeout(go, 30))
  known?.mergeLocaleMessage(language, texts)
}

async function addStyle() {
  const css = await fetch(new URL('runflow.css', import.meta.url))
  document.adoptedStyleSheets.push(await new CSSStyleSheet().replace(await css.text()))
}

function addSidebar() {
  const title = t('history.title')
  app.extensionManager.registerSidebarTab({
    id: 'runflow-evaluate', icon: 'pi pi-verified', title, tooltip: title, type: 'custom',
    render: (parent) => history.render(parent),
    destroy: () => history.destroy()
  })
}

app.registerExtension({
  name: 'runflowevaluate.editor',
  settings: settings({ server, note, ask }),
  commands: gestures.commands(),
  async init() {
    await Promise.all([addStyle(), readTexts()])
    panels.listen()
    addSidebar()
    for (const ended of ['execution_success', 'execution_error']) api.addEventListener(ended, () => history.ended())
  },
  nodeCreated(node) {
    applyDefaults(node, app.extensionManager.setting)
    panels.nodeCreated(node)
    gestures.nodeCreated(node)
  },
  getNodeMenuItems: (node) => gestures.menuItems(node),
  getSelectionToolboxCommands: (item) => gestures.toolbox(item),
  afterConfigureGraph: () => panels.restore()
})
