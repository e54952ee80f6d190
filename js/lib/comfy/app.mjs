/**
 * The only door to ComfyUI's editor: what the pack uses of it, typed, and asked for where it may be absent.
 * What works around one version of the frontend is in `compat.mjs`.
 */

/** @type {import('../types').ComfyApp} */
export let app
/** @type {import('../types').ComfyApi} */
export let api

/** Called once, by the entry script, which imports both from ComfyUI. @param {any} theApp @param {any} theApi */
export function open(theApp, theApi) {
  app = theApp
  api = theApi
}

/** Say something in a corner of the page. */
/** @param {string} detail @param {'success' | 'info' | 'warn' | 'error'} [severity] */
export function note(detail, severity = 'success', summary = 'Runflow Evaluate') {
  const life = severity === 'error' ? 8000 : 4000
  app.extensionManager.toast.add({ severity, summary, detail, life })
  return detail
}

/** Ask yes or no. @param {string} title @param {string} message @returns {Promise<boolean>} */
export async function ask(title, message) {
  return (await app.extensionManager.dialog.confirm({ title, message })) === true
}

/** @param {string} id */
export const setting = (id) => app.extensionManager.setting.get(id)

/** The graph that is open, without the subgraph that is looked into. */
export const rootGraph = () => app.rootGraph ?? app.graph

/** Whether nodes are drawn as elements (Vue nodes) and not on the canvas. */
export const drawsElements = () => /** @type {any} */ (globalThis).LiteGraph?.vueNodesMode === true

/**
 * Change the graph so that one undo takes all of it back.
 * @template T @param {() => T} make @returns {T}
 */
export function change(make) {
  const { canvas } = app
  canvas.emitBeforeChange()
  try {
    return make()
  } finally {
    canvas.emitAfterChange()
    canvas.setDirty(true, true)
  }
}

/**
 * The node of an execution id such as `7` or `2:1`; null for clones of a loop (`7.0.0.3`) and what is not there.
 * @param {string | number} executionId
 */
export function nodeOf(executionId, graph = rootGraph()) {
  /** @type {import('../types').GraphNode | null} */
  let node = null
  /** @type {import('../types').Graph | undefined} */
  let inside = graph
  for (const part of String(executionId).split(':')) {
    node = inside?.getNodeById(Number.isNaN(Number(part)) ? part : Number(part)) ?? null
    inside = node?.subgraph
  }
  return node
}

/** Bring a node into view, selected. @param {import('../types').GraphNode} node */
export function reveal(node) {
  const { canvas } = app
  if (node.graph && node.graph !== canvas.graph) canvas.setGraph(node.graph)
  canvas.centerOnNode(node)
  canvas.selectNode?.(node)
}

/**
 * Add to a node's own callback, after what is there; what the addition answers counts.
 * @param {any} node @param {string} name @param {(...given: any[]) => unknown} added
 */
export function chain(node, name, added) {
  const before = node[name]
  node[name] = function (/** @type {any[]} */ ...given) {
    const result = before?.apply(this, given)
    return added(...given) ?? result
  }
}
