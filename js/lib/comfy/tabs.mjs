/** Which workflow is open, and what is the same about it after a reload, in another browser, after a restart. */
import { app, rootGraph } from './app.mjs'

const NO_ID = '00000000-0000-0000-0000-000000000000'

/** The tab that is open: an object that stays the same while it is open, whatever it is saved as. */
export const tabOf = () => app.extensionManager.workflow?.activeWorkflow ?? rootGraph()

/**
 * The id of the open workflow. *Clear Workflow* and new ones of some frontends (1.49) leave it zero, and each load
 * of such a file then makes up another one: it is given one that stays.
 */
export function workflowId() {
  const graph = rootGraph()
  if (!graph.id || graph.id === NO_ID) graph.id = newId()
  return graph.id
}

/** As `crypto.randomUUID`, which pages on plain http do not have. */
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  bytes[6] = (bytes[6] & 15) | 64
  bytes[8] = (bytes[8] & 63) | 128
  const hex = [...bytes].map((each) => each.toString(16).padStart(2, '0')).join('')
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}

/** Called after a tab was opened: the frontend makes its nodes before it says which tab they are in. */
/** @param {() => void} opened */
export function onOpened(opened) {
  app.extensionManager.workflow?.$onAction?.((/** @type {any} */ { name, after }) => {
    if (name === 'openWorkflow') after(opened)
  })
}
