/**
 * What feeds what in a graph, followed as ComfyUI follows it when it makes a prompt: through reroutes, Set and Get,
 * bypassed nodes, and in and out of subgraphs. Changes nothing, and calls no function of other packs.
 */

/** @typedef {import('../types').GraphNode} GraphNode */
/** @typedef {import('../types').Graph} Graph */
/** @typedef {import('../types').Link} Link */
/** @typedef {import('../types').Widget} Widget */

/**
 * A node as one prompt sees it. The nodes of a subgraph exist once for each of its hosts.
 * @typedef {object} Place
 * @property {GraphNode} node
 * @property {GraphNode[]} hosts the subgraph nodes it is looked at through, outermost first
 */

/**
 * What an input gets: the output `slot` of a node, or the value of a widget on a subgraph's host, or nothing.
 * @typedef {object} Source
 * @property {Place | null} place
 * @property {number} slot
 * @property {Widget | null} widget
 * @property {'' | 'open' | 'muted' | 'outside' | 'unknown'} why why there is nothing: no link, a muted or unsuitably
 *   bypassed node, an input of a subgraph whose host is not known, wiring that only another pack knows
 */

const MUTED = 2
const BYPASSED = 4
/** The id of the node that stands for a subgraph's inputs. */
const SUBGRAPH_INPUTS = -10
const SETTERS = new Set(['SetNode', 'easy setNode'])
const GETTERS = new Set(['GetNode', 'easy getNode'])
/** Nodes that only the page has, and that join nothing but what is linked to them. */
const HARMLESS = /^(Reroute|PrimitiveNode|Note|MarkdownNote)$|\(rgthree\)$/
/** Packs that connect inputs when the prompt is made: nothing is certain beside one of these. */
const BROADCASTS = /everywhere/i

/** @param {GraphNode | null | undefined} node @returns {string} */
export const kind = (node) =>
  node?.comfyClass ?? /** @type {any} */ (node?.constructor)?.comfyClass ?? node?.type ?? ''

/** @param {GraphNode | null | undefined} node @param {string} name */
export const widget = (node, name) => node?.widgets?.find((each) => each.name === name)

/** @param {GraphNode | null | undefined} node @param {string} name -1 where there is none */
export const inputIndex = (node, name) =>
  node?.inputs?.findIndex((each) => each.name === name) ?? -1

/** @param {GraphNode | null | undefined} node @param {string} name -1 where there is none */
export const outputIndex = (node, name) =>
  node?.outputs?.findIndex((each) => each.name === name) ?? -1

/** Muted or bypassed. @param {GraphNode} node */
export const isOff = (node) => node.mode === MUTED || node.mode === BYPASSED

/** Whether ComfyUI starts a prompt at this node. @param {GraphNode} node */
export const isOutput = (node) =>
  /** @type {any} */ (node.constructor)?.nodeData?.output_node === true

/** @param {Place} place @returns {string} the id that ComfyUI's events name it by */
export const executionId = ({ node, hosts }) => [...hosts, node].map(({ id }) => id).join(':')

/** Every node of a graph and of its subgraphs, once. @param {Graph} graph */
export function everyNode(graph, /** @type {Set<GraphNode>} */ found = new Set()) {
  for (const node of graph.nodes) {
    if (found.has(node)) continue
    found.add(node)
    if (node.subgraph) everyNode(node.subgraph, found)
  }
  return found
}

/**
 * The link into an input. Newer frontends keep links out of the slots; subgraph hosts and some packs give the
 * method of that name another meaning, so LiteGraph's own is asked.
 * @param {GraphNode} node @param {number} index
 * @returns {Link | null}
 */
export function linkInto(node, index) {
  if (!node.graph || index < 0 || index >= (node.inputs?.length ?? 0)) return null
  const own = /** @type {any} */ (globalThis).LiteGraph?.LGraphNode?.prototype?.getInputLink
  if (own) return own.call(node, index) ?? null
  return node.graph.getLink(node.inputs[index].link) ?? null
}

/** @param {GraphNode} node @param {string} name */
export const isLinked = (node, name) => linkInto(node, inputIndex(node, name)) !== null

/** @param {Partial<Source>} found @returns {Source} */
const source = (found) => ({ place: null, slot: 0, widget: null, why: '', ...found })

/**
 * What an input of a node gets, as `Source` says.
 * @param {Place} place
 * @param {number | string} input
 * @returns {Source}
 */
export function sourceOf(place, input) {
  const index = typeof input === 'string' ? inputIndex(place.node, input) : input
  return intoInput(place, index, '', new Set())
}

/**
 * The node that gives an output: the one inside of a subgraph, or what a reroute or bypassed node hands on.
 * @param {Place} place @param {number} slot
 * @returns {Source}
 */
export const originOf = (place, slot) =>
  outOfNode(place, slot, place.node.outputs[slot]?.type ?? '', new Set())

/**
 * The place of an execution id such as `7` or `2:1`; null for clones of a loop (`7.0.0.3`) and what is not there.
 * @param {Graph} root @param {string} id
 * @returns {Place | null}
 */
export function placeOf(root, id) {
  /** @type {GraphNode[]} */
  const path = []
  /** @type {Graph | undefined} */
  let inside = root
  for (const part of String(id).split(':')) {
    /** @type {GraphNode | null | undefined} */
    const node = inside?.getNodeById(Number.isNaN(Number(part)) ? part : Number(part))
    if (!node) return null
    path.push(node)
    inside = node.subgraph
  }
  const node = path[path.length - 1]
  return { node, hosts: path.slice(0, -1) }
}

/** @param {Place} place @param {number} index @param {string} type @param {Set<string>} seen */
function intoInput(place, index, type, seen) {
  const link = linkInto(place.node, index)
  if (!link) return source({ why: 'open' })
  if (repeats(seen, `${executionId(place)} in ${index}`)) return source({ why: 'unknown' })
  if (comesFromOutside(link)) return fromHost(place, link.origin_slot, seen)
  const origin = place.node.graph?.getNodeById(link.origin_id)
  if (!origin) return source({ why: 'open' })
  const wanted = type || place.node.inputs[index].type
  return outOfNode({ node: origin, hosts: place.hosts }, link.origin_slot, wanted, seen)
}

/** @param {Set<string>} seen @param {string} step */
function repeats(seen, step) {
  if (seen.has(step)) return true
  seen.add(step)
  return false
}

/** Whether a link comes from the inputs of its subgraph. @param {Link} link */
export const comesFromOutside = (link) => Number(link.origin_id) === SUBGRAPH_INPUTS

/** @param {Place} inside @param {number} slot @param {Set<string>} seen @returns {Source} */
function fromHost({ hosts }, slot, seen) {
  const host = hosts.at(-1)
  if (!host) return source({ slot, why: 'outside' })
  const place = { node: host, hosts: hosts.slice(0, -1) }
  if (linkInto(host, slot)) return intoInput(place, slot, '', seen)
  const promoted = promotedWidget(host, slot)
  return promoted ? source({ place, slot, widget: promoted }) : source({ why: 'open' })
}

/** The widget that a subgraph's host shows for one of its inputs. @param {GraphNode} host @param {number} slot */
export function promotedWidget(host, slot) {
  const input = host.inputs[slot]
  const own = input?.widget && host.getWidgetFromSlot?.(input)
  return own ?? widget(host, input?.widget?.name ?? input?.name ?? '') ?? null
}

/** @param {Place} place @param {number} slot @param {string} type @param {Set<string>} seen @returns {Source} */
function outOfNode(place, slot, type, seen) {
  const { node, hosts } = place
  if (repeats(seen, `${executionId(place)} out ${slot}`)) return source({ why: 'unknown' })
  if (node.mode === MUTED) return source({ why: 'muted' })
  if (node.mode === BYPASSED) {
    const index = bypassedInput(node, slot, type)
    return index < 0 ? source({ why: 'muted' }) : intoInput(place, index, type, seen)
  }
  if (node.subgraph) return outOfSubgraph(node, hosts, slot, type, seen)
  if (GETTERS.has(node.type)) return outOfGetter(place, slot, type, seen)
  if (!node.isVirtualNode || node.type === 'PrimitiveNode') return source({ place, slot })
  const joins = HARMLESS.test(node.type) || SETTERS.has(node.type)
  return joins ? intoInput(place, slot, type, seen) : source({ why: 'unknown' })
}

/**
 * @param {GraphNode} host @param {GraphNode[]} hosts @param {number} slot @param {string} type
 * @param {Set<string>} seen @returns {Source}
 */
function outOfSubgraph(host, hosts, slot, type, seen) {
  const inside = host.subgraph
  const link = inside?.outputNode?.slots[slot]?.getLinks()[0]
  if (!link) return source({ why: 'open' })
  if (comesFromOutside(link)) return intoInput({ node: host, hosts }, link.origin_slot, type, seen)
  const node = inside?.getNodeById(link.origin_id)
  if (!node) return source({ why: 'open' })
  return outOfNode({ node, hosts: [...hosts, host] }, link.origin_slot, type, seen)
}

/** A Get node gives what the Set node of its name gets, in its own graph or around it. */
/** @param {Place} place @param {number} slot @param {string} type @param {Set<string>} seen */
function outOfGetter({ node, hosts }, slot, type, seen) {
  const name = node.widgets?.[0]?.value
  for (let depth = hosts.length; depth >= 0; depth--) {
    const graph = depth === hosts.length ? node.graph : hosts[depth].graph
    const setters = (graph?.nodes ?? []).filter(
      (each) => SETTERS.has(each.type) && each.widgets?.[0]?.value === name
    )
    if (setters.length > 1) return source({ why: 'unknown' })
    if (!setters.length) continue
    const place = { node: setters[0], hosts: hosts.slice(0, depth) }
    return intoInput(place, slot, type, seen)
  }
  return source({ why: 'unknown' })
}

/** Which input a bypassed node hands on: the one beside the output, else the first that fits. */
/** @param {GraphNode} node @param {number} slot @param {string} type */
function bypassedInput(node, slot, type) {
  const { inputs } = node
  const given = node.outputs[slot]?.type
  if (type === '*' || type === '') return inputs.length > slot ? slot : 0
  /** @param {import('../types').Slot} input */
  const both = (input) => isValid(input.type, given) && isValid(input.type, type)
  if (inputs[slot] && both(inputs[slot])) return slot
  const exact = inputs.findIndex((input) => input.type === type)
  return exact < 0 ? inputs.findIndex(both) : exact
}

/** @param {string} from @param {string} to */
function isValid(from, to) {
  const own = /** @type {any} */ (globalThis).LiteGraph?.isValidConnection
  if (own) return own.call(/** @type {any} */ (globalThis).LiteGraph, from, to)
  return from === to || from === '*' || to === '*'
}

/**
 * The inputs that an output of a node is linked to directly, in its own graph.
 * `node` is null where that is an output of the subgraph.
 * @param {GraphNode} node @param {number} slot
 * @returns {{node: GraphNode | null, slot: number}[]}
 */
export function targets(node, slot) {
  const { graph } = node
  if (!graph) return []
  /** @param {Link | null} link */
  const isOurs = (link) => link?.origin_id === node.id && link.origin_slot === slot
  const inside = graph.nodes.flatMap((each) =>
    (each.inputs ?? []).map((_, index) => ({ node: each, slot: index }))
  )
  const found = inside.filter((each) => isOurs(linkInto(each.node, each.slot)))
  /** @type {{getLinks(): Link[]}[]} */
  const outputs = graph.outputNode?.slots ?? []
  const out = outputs.flatMap((each, index) =>
    each.getLinks().some(isOurs) ? [{ node: null, slot: index }] : []
  )
  return [...found, ...out]
}

/** Every node upstream of this one in its own graph, nearest first. @param {GraphNode} node */
export const upstream = (node) =>
  walk(node, (each) =>
    (each.inputs ?? []).flatMap((_, index) => {
      const linked = node.graph?.getNodeById(linkInto(each, index)?.origin_id)
      const found = sourceOf({ node: each, hosts: [] }, index).place?.node
      return [linked, found?.graph === node.graph ? found : null]
    })
  )

/** Every node downstream of this one in its own graph, nearest first. @param {GraphNode} node */
export const downstream = (node) =>
  walk(node, (each) =>
    (each.outputs ?? []).flatMap((_, slot) => targets(each, slot).map((to) => to.node))
  )

/** @param {GraphNode} start @param {(node: GraphNode) => (GraphNode | null | undefined)[]} next */
function walk(start, next) {
  const seen = new Set([start])
  for (const node of seen) {
    for (const each of next(node)) if (each) seen.add(each)
  }
  return [...seen].slice(1)
}

/**
 * What the next prompt is made of: one look at the whole graph, for all panels.
 */
export class Survey {
  /** @type {Map<GraphNode, Place[]>} each node as every host of it sees it; of hosts that are on */
  places = new Map()
  /** @type {Map<string, Place>} what runs, by execution id: all that an active output depends on */
  running = new Map()
  /** Whether nothing in the graph connects what only another pack knows of. */
  certain = true
  /** @type {Map<string, Source[]>} */
  #sources = new Map()
  /** @type {Map<string, Map<string, Place>>} */
  #upstream = new Map()

  /** @param {Graph} root */
  constructor(root) {
    this.#look(root, [])
    const outputs = [...this.places.values()]
      .flat()
      .filter(({ node }) => isOutput(node) && !isOff(node) && !node.isVirtualNode)
    for (const place of outputs) {
      this.running.set(executionId(place), place)
      for (const [id, each] of this.upstream(place)) this.running.set(id, each)
    }
  }

  /** @param {Graph} graph @param {GraphNode[]} hosts */
  #look(graph, hosts) {
    for (const node of graph.nodes) {
      const places = this.places.get(node) ?? []
      this.places.set(node, [...places, { node, hosts }])
      if (isUncertain(node)) this.certain = false
      if (node.subgraph && !isOff(node)) this.#look(node.subgraph, [...hosts, node])
    }
  }

  /** What each input of a node gets. @param {Place} place @returns {Source[]} */
  sources(place) {
    const id = executionId(place)
    const found =
      this.#sources.get(id) ?? (place.node.inputs ?? []).map((_, index) => sourceOf(place, index))
    this.#sources.set(id, found)
    return found
  }

  /** What an input gets, by its name. @param {Place} place @param {string} name */
  source(place, name) {
    return this.sources(place)[inputIndex(place.node, name)] ?? source({ why: 'open' })
  }

  /** All that a node depends on, by execution id; without itself. @param {Place} place */
  upstream(place) {
    const id = executionId(place)
    const known = this.#upstream.get(id)
    if (known) return known
    /** @type {Map<string, Place>} */
    const found = new Map([[id, place]])
    for (const each of found.values()) {
      for (const { place: from, widget: promoted } of this.sources(each)) {
        if (from && !promoted) found.set(executionId(from), from)
      }
    }
    found.delete(id)
    this.#upstream.set(id, found)
    return found
  }
}

/** Whether another pack may connect this node in a way of its own. @param {GraphNode} node */
function isUncertain(node) {
  if (BROADCASTS.test(node.type) || node.properties?.ue_convert || node.IS_UE) return true
  if (/^workflow[>/]/.test(node.type)) return true // a group node of older workflows
  if (!node.isVirtualNode || node.subgraph) return false
  return !(HARMLESS.test(node.type) || SETTERS.has(node.type) || GETTERS.has(node.type))
}
