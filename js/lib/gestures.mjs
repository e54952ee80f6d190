/** Right-click items and commands for the gestures, and the offer when a prompt is wired back. */
import { chain, everyNode, kind, outputIndex, upstream, widget } from './graph.mjs'
import { checkQuality, clear, fixSeed, imageOf, loopParts, regenerate } from './insert.mjs'
import { t } from './text.mjs'

/** `find`: what of a node it would work on; `none`: what is said where that is nothing. */
const REGENERATE = { id: 'RunflowEvaluate.Regenerate', name: 'regenerate', icon: 'pi pi-refresh', find: loopParts, none: 'no_loop', make: regenerate }
const ALL = [{ id: 'RunflowEvaluate.CheckQuality', name: 'check', icon: 'pi pi-check-circle', find: imageOf, none: 'no_image', make: checkQuality }, REGENERATE]
const possible = (node) => ALL.filter(({ find }) => find(node))
const label = ({ name }) => t(`gestures.${name}`)

export class Gestures {
  /** @param {object} host `app`, `panels`, `ask(title, message)` resolves to yes or no */
  constructor(host) {
    Object.assign(this, host)
  }

  menuItems(node) {
    const items = possible(node).map((each) => ({ content: label(each), callback: () => this.#do(each, node) }))
    return items.length ? [null, ...items] : []
  }

  commands() {
    const selected = () => Object.values(this.app.canvas.selected_nodes ?? {})[0]
    return ALL.map((each) => ({ id: each.id, icon: each.icon, label: () => label(each), function: () => this.#do(each, selected()) }))
  }

  /** The same beside a selected node, also where the right-click menu takes no items of packs. */
  toolbox(item) {
    return possible(item).map(({ id }) => id)
  }

  /** An improved prompt cannot be wired back into what made its image: a graph has no cycles. A loop does it. */
  nodeCreated(node) {
    if (kind(node) === 'RunflowRegenerateStart') fixSeed(node)
    if (kind(node) !== 'RunflowEvaluateImage') return
    chain(node, 'onConnectOutput', (slot, type, { name }, target) => {
      if (slot !== outputIndex(node, 'improved_prompt') || !upstream(node).includes(target)) return
      queueMicrotask(() => this.#offer(node, target, name))
      return false // nothing is connected: what fed the input goes on feeding it
    })
  }

  async #offer(node, target, name) {
    const yes = await this.ask(label(REGENERATE), t('gestures.offer'))
    const open = everyNode(this.app.rootGraph) // another workflow may have been opened meanwhile
    if (!yes || !open.has(node) || !open.has(target)) return
    const text = { node: target, widget: widget(target, name) ?? { name, value: '' } }
    const made = upstream(node).find((each) => loopParts(each)?.image === each)
    this.#do({ ...REGENERATE, make: (parts, create) => regenerate({ ...parts, text }, create) }, made ?? target)
  }

  #do({ find, none, make }, node) {
    const found = node && find(node)
    if (!found) return this.panels.note(t(`gestures.${node ? none : 'select'}`), 'warn')
    const { graph } = node
    const made = []
    const create = (type, pos) => {
      const created = globalThis.LiteGraph.createNode(type)
      created.pos = pos
      clear(created, graph)
      graph.add(created)
      made.push(created)
      return created
    }
    this.panels.change(() => make(found, create))
    this.app.canvas.selectNodes?.(made)
  }
}
