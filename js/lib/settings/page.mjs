/**
 * The pack's part of ComfyUI's settings. The key goes to the pack's own route and never into a setting. What draws it
 * is loaded when somebody opens it.
 */
import { setting } from '../comfy/app.mjs'
import { kind, widget } from '../comfy/links.mjs'
import { t } from '../text.mjs'

const CATEGORY = 'Runflow Evaluate'

/** @param {string} group @param {string} id @param {object} more */
const of = (group, id, more) => ({
  id: `RunflowEvaluate.${id}`,
  name: id,
  tooltip: id,
  category: [CATEGORY, group, id],
  ...more
})

/** A setting that only draws: what it changes is not ComfyUI's to keep. @param {'Key' | 'Limits'} id */
const drawn = (id) =>
  of('Account and limits', id, { tooltip: '', defaultValue: null, type: () => box(id) })

/** @param {'Key' | 'Limits'} id */
function box(id) {
  const root = document.createElement('div')
  root.className = 'rf-page rf-setting'
  root.textContent = t('settings.reading')
  import('./box.mjs')
    .then(({ render }) => render(root, id))
    .catch((error) => {
      root.textContent = error.message
    })
  return root
}

/** ComfyUI's settings of the pack, with their words in `locales`. */
export const settings = () => [
  drawn('Limits'),
  drawn('Key'),
  of('New nodes', 'Judge', {
    type: 'combo',
    options: ['auto', 'runflow', 'local', 'off', 'model', 'person'],
    defaultValue: 'auto'
  }),
  of('New nodes', 'Reuse', { type: 'boolean', defaultValue: true })
]

/** @type {Record<string, [string, string]>} the widget of a new node, and the setting that it begins with */
const DEFAULTS = {
  RunflowEvaluateImage: ['judge', 'Judge'],
  RunflowEvaluationOptions: ['reuse', 'Reuse']
}

/** Give a new node what the person chose for new nodes; a loaded one gets its own values afterwards. */
/** @param {import('../types').GraphNode} node */
export function applyDefaults(node) {
  const [name, id] = DEFAULTS[kind(node)] ?? []
  const found = name && widget(node, name)
  if (found) found.value = setting(`RunflowEvaluate.${id}`) ?? found.value
}
