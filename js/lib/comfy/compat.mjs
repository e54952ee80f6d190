/**
 * Work-arounds, each with the version of the frontend that ends it. Private names of the frontend stand here and
 * nowhere else, and each is looked for before it is used.
 */
import { api, app, chain, drawsElements } from './app.mjs'

/**
 * Tell which prompt was queued from where. `promptQueued` names no prompt, up to 1.58.1 at least; `api.queuePrompt`
 * answers with its id.
 * @template T
 * @param {(noted: T, prompt: string) => void} queued @param {() => T} note called as it is queued
 */
export function onQueued(queued, note) {
  const queue = api.queuePrompt
  if (typeof queue !== 'function') return
  api.queuePrompt = async function (/** @type {any[]} */ ...given) {
    const noted = note()
    const answer = await queue.apply(this, given)
    if (typeof answer?.prompt_id === 'string') queued(noted, answer.prompt_id)
    return answer
  }
}

/**
 * The frontend writes a node's progress text into a widget of its own, below the panel, which says the same in the
 * person's language. All versions up to 1.58.1.
 * @param {(node: string) => boolean} hasPanel
 */
export function hideProgressText(hasPanel) {
  const dispatch = api.dispatchCustomEvent
  if (typeof dispatch !== 'function') return
  api.dispatchCustomEvent = function (/** @type {any[]} */ ...given) {
    const [type, detail] = given
    if (type === 'progress_text' && hasPanel(String(detail?.nodeId ?? ''))) return true
    return dispatch.apply(this, given)
  }
}

/** A text of the pack, to see whether the frontend has any. */
const OWN_TEXT = 'runflow.panel.idle'

/** The texts that the frontend has, of itself and of packs; null where it cannot be asked. */
function frontendTexts() {
  const vue = /** @type {any} */ (document.querySelector('#vue-app'))?.__vue_app__
  const found = vue?._context?.provides[vue.__VUE_I18N_SYMBOL__]?.global
  const names = ['te', 'mergeLocaleMessage', 'setLocaleMessage']
  return names.every((each) => typeof found?.[each] === 'function') ? found : null
}

/**
 * Frontend 1.32 forgets packs' texts when it has loaded a language, whenever that is: it is told them again.
 * Ends with 1.33.
 * @param {Record<string, any>} texts of all packs, by language
 */
export function remindOfTexts(texts) {
  const known = frontendTexts()
  if (!known) return
  const tell = (/** @type {string} */ each) => {
    if (texts[each]?.runflow && !known.te(OWN_TEXT, each))
      known.mergeLocaleMessage(each, texts[each])
  }
  const load = known.setLocaleMessage
  known.setLocaleMessage = (/** @type {string} */ each, /** @type {any} */ messages) => {
    load(each, messages)
    tell(each)
  }
  Object.keys(texts).forEach(tell)
}

/**
 * What the pack's nodes are called is read once, when they are defined. Where frontend 1.32 has forgotten it by then,
 * they are named here. Ends with 1.33.
 * @param {Record<string, any>} definitions @param {string} wanted the language
 * @param {Promise<Record<string, any>>} reading the texts
 */
export async function nameNodes(definitions, wanted, reading) {
  if (wanted === 'en' || (frontendTexts()?.te(OWN_TEXT, wanted) ?? true)) return
  const names = (await reading)[wanted]?.nodeDefs ?? {}
  for (const [type, definition] of Object.entries(definitions)) {
    if (!type.startsWith('Runflow')) continue
    definition.display_name = names[type]?.display_name ?? definition.display_name
    definition.description = names[type]?.description ?? definition.description
  }
}

/**
 * Undo makes the nodes anew, and Vue nodes of 1.32 go on showing the panel of the one before. Ends with 1.49.
 * @param {import('../types').GraphNode} node @param {HTMLElement} element its panel
 */
export function putBack(node, element) {
  if (!drawsElements() || element.isConnected || node.graph !== app.canvas.graph) return
  const stale = document.querySelector(`[data-node-id="${CSS.escape(String(node.id))}"] .rf-panel`)
  stale?.replaceWith(element)
}

/**
 * A node shows what is in `ui.images` below itself, which says the same as the panel: App mode and the Jobs panel get
 * it all the same. Vue nodes know `hideOutputImages` from 1.49; on the canvas the images are drawn as a background.
 * All versions.
 * @param {any} node @param {boolean} previews whether it shows previews while it runs, which are drawn there too
 */
export function hideOutputImages(node, previews) {
  node.hideOutputImages = true
  if (!previews) node.onDrawBackground = undefined
  else {
    chain(node, 'onExecuted', (output) => {
      node.images = output?.images ?? node.images // what it holds already is not drawn as new
    })
  }
}

/** A badge in a node's title, where the editor draws those. All versions; for Vue nodes there is `headerOf`. */
/** @param {{text: string, fgColor: string, bgColor: string}} options */
export function badge(options) {
  const { LGraphBadge } = /** @type {any} */ (globalThis)
  return typeof LGraphBadge === 'function' ? new LGraphBadge(options) : null
}

/**
 * The selector of the title of a node that is drawn as an element. Vue nodes read badges when they are made, and draw
 * them where a collapsed node has none. All versions up to 1.58.1.
 * @param {string | number} id of a node in the open graph
 */
export const headerOf = (id) => `[data-testid="${CSS.escape(`node-header-${id}`)}"]`

/**
 * Called when a setting changed. `ui.settings` tells it in all versions up to 1.58.1.
 * @param {string} id @param {(value: any) => void} changed
 */
export function onSetting(id, changed) {
  app.ui?.settings?.addEventListener?.(`${id}.change`, (/** @type {any} */ event) =>
    changed(event.detail?.value)
  )
}

/** Open ComfyUI's settings at the pack's page, where the version can, else at their beginning. */
export function openSettings() {
  return app.extensionManager.command.execute('Comfy.ShowSettingsDialog')
}

/** @param {any} node */
const isOurs = (node) => String(node?.comfyClass ?? node?.type).startsWith('Runflow')

/**
 * A saved link names the input it ends at by number, and inputs without a widget come before those with one: an input
 * that a later version of the pack has shifts the numbers. Each saved node has its inputs' names and links, and those
 * count. Frontends up to 1.49 at least mend the numbers only after the hosts of subgraphs have taken their widgets.
 * @param {import('../types').GraphNode} node a new one: as it is loaded, its links end where its inputs are now
 */
export function keepLinks(node) {
  if (!isOurs(node)) return
  chain(node, 'onConfigure', () => {
    for (const [slot, input] of node.inputs.entries()) {
      const link = input.link == null ? null : node.graph?.getLink?.(input.link)
      if (!link || String(link.target_id) !== String(node.id)) continue
      if (link.target_slot !== slot) link.target_slot = slot
    }
  })
}

/**
 * Links between pasted nodes are made by number again, and a copy can be older than the pack: the browser keeps it, and
 * ComfyUI's node templates are copies. Ends with 1.58.
 */
export function keepPastedLinks() {
  const { canvas } = app
  const paste = canvas?._deserializeItems
  if (typeof paste !== 'function') return
  canvas._deserializeItems = function (/** @type {any} */ items, /** @type {any[]} */ ...given) {
    for (const link of items?.links ?? []) {
      const node = items.nodes?.find((/** @type {any} */ each) => each.id === link.target_id)
      const name = node?.inputs?.[link.target_slot]?.name
      if (name && isOurs(node)) link.target_slot = name // `connect` takes a name as well
    }
    return paste.call(this, items, ...given)
  }
}

/**
 * The links between the nodes of a group node are numbers too, and no node is there to mend them: they get the name of
 * their input beside the number. The editor sorts inputs by the digits of their numbers, 10 before 4, so those with a
 * widget go first. Ends with the last frontend that knows group nodes.
 */
export function keepGroupedLinks() {
  const groups = /** @type {any} */ (globalThis).comfyAPI?.groupNode?.GroupNodeConfig
  const register = groups?.registerFromWorkflow
  if (typeof register !== 'function') return
  groups.registerFromWorkflow = function (/** @type {any} */ found, /** @type {any[]} */ ...given) {
    for (const group of Object.values(found ?? {})) nameLinks(group)
    return register.call(this, found, ...given)
  }
}

/** @param {any} group what a workflow holds of a group node; its links: [from, output, to, input, type] */
function nameLinks({ nodes = [], links = [] }) {
  for (const link of links) {
    const node = nodes[link[2]]
    if (!isOurs(node)) continue
    link[5] ??= node.inputs?.[link[3]]?.name
    const slot = slotsNow(node.type).indexOf(link[5])
    if (slot >= 0) link[3] = slot
  }
  for (const node of nodes.filter(isOurs)) {
    node.inputs?.sort(
      (/** @type {any} */ one, /** @type {any} */ other) =>
        Number(!one.widget) - Number(!other.widget)
    )
  }
}

/**
 * Which input of a group node feeds which of its nodes is counted without the inputs that widgets have since 1.16.
 * @param {any} node a new one, which may be a group node
 */
export function placeGroupInputs(node) {
  const group = Object.getOwnPropertySymbols(node)
    .map((key) => node[key]?.groupData)
    .find(Boolean)
  for (const [index, inner] of (group?.nodeData?.nodes ?? []).entries()) {
    if (!isOurs(inner)) continue
    for (const [slot, name] of slotsNow(inner.type).entries()) {
      const shown = group.oldToNewWidgetMap?.[index]?.[name] ?? group.nodeInputs?.[index]?.[name]
      const place = node.inputs.findIndex((/** @type {any} */ input) => input.name === shown)
      if (place >= 0 && !group.linksTo[index]?.[slot]) group.oldToNewInputMap[index][slot] = place
    }
  }
}

/** @param {string} type @returns {string[]} the names of a node's inputs, in their order */
function slotsNow(type) {
  const node = /** @type {any} */ (globalThis).LiteGraph.createNode(type)
  return (node?.inputs ?? []).map((/** @type {any} */ input) => input.name)
}
