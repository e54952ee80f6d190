/** Questions about a graph of LiteGraph nodes; changes nothing. */

const MUTED = 2
const BYPASSED = 4
const FAR = 200

export const kind = (node) => node?.comfyClass ?? node?.constructor?.comfyClass ?? node?.type
export const widget = (node, name) => node?.widgets?.find((each) => each.name === name)
export const input = (node, name) => node?.inputs?.find((each) => each.name === name)
export const outputIndex = (node, name) => node?.outputs?.findIndex((each) => each.name === name) ?? -1
const isOff = (node) => node.mode === MUTED || node.mode === BYPASSED

export const linkOf = (graph, id) => graph.getLink(id) ?? null

/** The node and output slot that feed an input, through reroute nodes; null where nothing is connected. */
export function source(node, name) {
  const link = linkOf(node.graph, input(node, name)?.link)
  const from = link && node.graph.getNodeById(link.origin_id)
  if (!from) return null
  if (kind(from) === 'Reroute') return source(from, from.inputs[0]?.name ?? '')
  return { node: from, slot: link.origin_slot }
}

/** The nodes and inputs that an output slot feeds; the node is `null` where that is an output of the subgraph. */
export function targets(node, slot) {
  const links = [...(node.outputs?.[slot]?.links ?? [])].map((id) => linkOf(node.graph, id)).filter(Boolean)
  return links.map((link) => ({ node: node.graph.getNodeById(link.target_id), slot: link.target_slot, link }))
}

/** Every node downstream of this one, nearest first. `null` among them is the edge of a subgraph. */
export function downstream(node) {
  return walk(node, (each) => (each.outputs ?? []).flatMap((_, slot) => targets(each, slot).map((to) => to.node)))
}

/** Every node upstream of this one, nearest first. */
export function upstream(node) {
  return walk(node, (each) => (each.inputs ?? []).map(({ name }) => source(each, name)?.node).filter(Boolean))
}

function walk(start, next) {
  const seen = new Set([start])
  const found = []
  for (let queue = next(start); queue.length && found.length < FAR; ) {
    const node = queue.shift()
    if (seen.has(node)) continue
    seen.add(node)
    found.push(node)
    if (node) queue.push(...next(node))
  }
  return found
}

/** Why ComfyUI would not run this node: "muted", "bypassed", "no_image", "no_output"; null where it would. */
export function whyIdle(node) {
  if (node.mode === MUTED) return 'muted'
  if (node.mode === BYPASSED) return 'bypassed'
  const image = input(node, 'image')
  if (image && image.link == null) return 'no_image'
  if (isOutput(node)) return null
  const runs = downstream(node).some((each) => !each || (isOutput(each) && !isOff(each)))
  return runs ? null : 'no_output'
}

export const isOutput = (node) => node.constructor?.nodeData?.output_node === true

/** The loop's end that reads this evaluation, if one does. */
export function loopEnd(node) {
  const slot = outputIndex(node, 'evaluation')
  return targets(node, slot).map((to) => to.node).find((each) => kind(each) === 'RunflowRegenerateEnd') ?? null
}

/** The node of an execution id such as `7` or `2:1`; clones of a loop (`7.0.0.3`) are not in the graph. */
export function nodeOf(root, executionId) {
  let graph = root
  let node = null
  for (const part of String(executionId).split(':')) {
    node = graph?.getNodeById(Number.isNaN(Number(part)) ? part : Number(part)) ?? null
    graph = node?.subgraph
  }
  return node
}

/** Every node of a graph and of its subgraphs. */
export function everyNode(graph, found = new Set()) {
  for (const node of graph.nodes) {
    if (found.has(node)) continue
    found.add(node)
    if (node.subgraph) everyNode(node.subgraph, found)
  }
  return found
}

/** Add to a node's own callback, after what is there; what the addition answers counts. */
export function chain(node, name, added) {
  const before = node[name]
  node[name] = function (...given) {
    const result = before?.apply(this, given)
    return added(...given) ?? result
  }
}
