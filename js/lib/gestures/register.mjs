/** The gestures' commands, and what a new node needs of them at once; the rest is loaded when it is quiet. */
import { t } from '../text.mjs'

/** @typedef {import('../types').GraphNode} GraphNode */
/** @typedef {typeof import('./commands.mjs')} Gestures */

const COMMANDS = [
  ['RunflowEvaluate.CheckQuality', 'gestures.check', 'pi pi-check-circle'],
  ['RunflowEvaluate.Regenerate', 'gestures.regenerate', 'pi pi-refresh'],
  ['RunflowEvaluate.Repair', 'gestures.repair', 'pi pi-wrench'],
  ['RunflowEvaluate.Price', 'price.ask', 'pi pi-wallet']
]
const QUIET_MS = 300

/** @type {Gestures | null} what menus ask, which do not wait */
let loaded = null
const load = async () => {
  loaded ??= await import('./commands.mjs')
  return loaded
}

/** Load the rest when the editor has started. */
export const loadSoon = () => setTimeout(load, QUIET_MS)

export const commands = () =>
  COMMANDS.map(([id, label, icon]) => ({
    id,
    icon,
    label: () => t(label),
    function: async () =>
      (await load())
        .commands()
        .find((each) => each.id === id)
        ?.function()
  }))

/** @param {GraphNode} node */
export const menuItems = (node) => loaded?.menuItems(node) ?? []

/** @param {GraphNode} item */
export const toolbox = (item) => loaded?.toolbox(item) ?? []

/** @param {GraphNode} node */
export function nodeCreated(node) {
  if (node.comfyClass === 'RunflowRegenerateStart') fixSeed(node)
  if (node.comfyClass === 'RunflowEvaluateImage') load().then((all) => all.nodeCreated(node))
}

/** A seed that changes by itself would make every Run cost anew. A loaded node gets its own choice afterwards. */
/** @param {GraphNode} start */
function fixSeed(start) {
  const seed = start.widgets?.find(({ name }) => name === 'seed')
  const control =
    seed?.linkedWidgets?.[0] ?? start.widgets?.find(({ name }) => name === 'control_after_generate')
  if (control) control.value = 'fixed'
}
