/** Right-click items and commands for the gestures, and the offer when a prompt is wired back. */
import { chain, kind, linkOf, outputIndex, upstream } from './graph.mjs'
import { checkQuality, clear, fixSeed, imageOutput, loopParts, regenerate } from './insert.mjs'
import { t } from './text.mjs'

const CHECK = 'RunflowEvaluate.CheckQuality'
const REGENERATE = 'RunflowEvaluate.Regenerate'

export class Gestures {
  constructor({ app, panels }) {
    Object.assign(this, { app, panels })
  }

  menuItems(node) {
    const items = [
      imageOutput(node) >= 0 && { content: t('gestures.check'), callback: () => this.check(node) },
      loopParts(node) && { content: t('gestures.regenerate'), callback: () => this.regenerate(node) }
    ].filter(Boolean)
    return items.length ? [null, ...items] : []
  }

  commands() {
    const on = (act) => () => {
      const node = Object.values(this.app.canvas.selected_nodes ?? {})[0]
      if (node) act(node)
      else this.panels.note(t('gestures.select'), 'warn')
    }
    return [
      { id: CHECK, label: () => t('gestures.check'), icon: 'pi pi-check-circle', function: on((node) => this.check(node)) },
      { id: REGENERATE, label: () => t('gestures.regenerate'), icon: 'pi pi-refresh', function: on((node) => this.regenerate(node)) }
    ]
  }

  /** The same beside a selected node, also where the right-click menu takes no items of packs. */
  toolbox(item) {
    const can = [imageOutput(item) >= 0 && CHECK, item.graph && loopParts(item) && REGENERATE]
    return can.filter(Boolean)
  }

  check(node) {
    if (imageOutput(node) < 0) return this.panels.note(t('gestures.no_image'), 'warn')
    this.#insert(node, (create) => checkQuality(node, create))
  }

  regenerate(node) {
    const parts = loopParts(node)
    if (!parts) return this.panels.note(t('gestures.no_loop'), 'warn')
    this.#insert(node, (create) => regenerate(parts, create))
  }

  /** An improved prompt cannot be wired back into what made its image: a graph has no cycles. A loop does it. */
  nodeCreated(node) {
    if (kind(node) === 'RunflowRegenerateStart') fixSeed(node)
    if (kind(node) !== 'RunflowEvaluateImage') return
    chain(node, 'onConnectionsChange', (side, slot, connected, link) => {
      const made = link && linkOf(node.graph, link.id)
      const isOutput = side === 2 && slot === outputIndex(node, 'improved_prompt')
      if (connected && isOutput && made && !this.inserting) queueMicrotask(() => this.#offer(node, made))
    })
  }

  async #offer(node, link) {
    const target = node.graph?.getNodeById(link.target_id)
    if (!target || !upstream(node).includes(target)) return
    const yes = await this.app.extensionManager.dialog.confirm({ title: t('gestures.regenerate'), message: t('gestures.offer') })
    this.panels.change(() => target.disconnectInput(link.target_slot))
    if (yes) this.regenerate(upstream(node).find((each) => imageOutput(each) >= 0 && loopParts(each)) ?? target)
  }

  #insert(node, make) {
    const { graph } = node
    const made = []
    const create = (type, pos) => {
      const created = globalThis.LiteGraph.createNode(type)
      created.pos = pos
      clear(created, graph.nodes)
      graph.add(created)
      made.push(created)
      return created
    }
    this.inserting = true
    try {
      this.panels.change(() => make(create))
    } finally {
      this.inserting = false
    }
    this.app.canvas.selectNodes?.(made)
  }
}
