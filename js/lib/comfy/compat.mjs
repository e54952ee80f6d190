/**
 * Work-arounds, each with the version of the frontend that ends it. Private names of the frontend stand here and
 * nowhere else, and each is looked for before it is used.
 */
import { api, app, drawsElements } from './app.mjs'

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

/**
 * Frontend 1.32 forgets packs' texts when it loads a language: it is told them again. Ends with 1.33.
 * @param {string} language @param {Record<string, any> | undefined} texts
 */
export async function remindOfTexts(language, texts) {
  const vue = /** @type {any} */ (document.querySelector('#vue-app'))?.__vue_app__
  const known = texts && vue?._context?.provides[vue.__VUE_I18N_SYMBOL__]?.global
  if (typeof known?.mergeLocaleMessage !== 'function') return
  for (let left = 99; left && known.locale?.value !== language; left--) {
    await new Promise((go) => setTimeout(go, 30))
  }
  known.mergeLocaleMessage(language, texts)
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
}

/** A badge in a node's title, where the editor draws those. All versions; Vue nodes draw no plain object. */
/** @param {{text: string, fgColor: string, bgColor: string}} options */
export function badge(options) {
  const { LGraphBadge } = /** @type {any} */ (globalThis)
  return typeof LGraphBadge === 'function' ? new LGraphBadge(options) : null
}

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
