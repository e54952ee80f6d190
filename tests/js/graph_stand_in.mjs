/** As much of LiteGraph as the helpers use: nodes with widgets that can be linked to, and links. */

const TYPES = {
  RunflowEvaluateImage: [['image:IMAGE'], ['passed:BOOLEAN', 'score:FLOAT', 'issues:STRING', 'improved_prompt:STRING', 'evaluation:RUNFLOW_EVALUATION'], { generation_prompt: '' }],
  RunflowShowVerdict: [['evaluation:RUNFLOW_EVALUATION'], [], {}, true],
  RunflowRegenerateStart: [[], ['loop:RUNFLOW_LOOP', 'current_prompt:STRING', 'current_seed:INT'], { prompt: '', seed: 0, control_after_generate: 'randomize' }],
  RunflowRegenerateEnd: [['loop:RUNFLOW_LOOP', 'image:IMAGE', 'evaluation:RUNFLOW_EVALUATION'], ['best_image:IMAGE'], { max_attempts: 3 }],
  PreviewImage: [['images:IMAGE'], [], {}, true]
}

export class Graph {
  nodes = []
  links = new Map()

  create(type) {
    return this.put(type, ...TYPES[type])
  }

  put(type, inputs, outputs, widgets = {}, output_node = false) {
    const node = new Node(this, type, this.nodes.length + 1, output_node)
    const slots = (all) => all.map((each) => ({ name: each.split(':')[0], type: each.split(':')[1], link: null, links: [] }))
    node.inputs = [...slots(inputs), ...Object.keys(widgets).map((name) => ({ name, type: typeof widgets[name] === 'string' ? 'STRING' : 'INT', link: null, widget: { name } }))]
    node.outputs = slots(outputs)
    node.widgets = Object.entries(widgets).map(([name, value]) => ({ name, value, type: typeof value === 'string' ? 'customtext' : 'number' }))
    this.nodes.push(node)
    return node
  }

  getLink(id) {
    return this.links.get(id)
  }

  getNodeById(id) {
    return this.nodes.find((node) => node.id === id) ?? null
  }
}

class Node {
  mode = 0
  pos = [0, 0]
  size = [200, 100]

  constructor(graph, type, id, output_node) {
    Object.assign(this, { graph, type, id, comfyClass: type })
    Object.defineProperty(this, 'constructor', { value: { nodeData: { output_node } } })
  }

  widget(name) {
    return this.widgets.find((each) => each.name === name)
  }

  /** As LiteGraph's: slots by number or by name. */
  connect(output, target, name) {
    const at = (slots, each) => (typeof each === 'string' ? slots.findIndex((one) => one.name === each) : each)
    const [slot, index] = [at(this.outputs, output), at(target.inputs, name)]
    const before = this.graph.links.get(target.inputs[index].link)
    if (before) {
      const from = this.graph.getNodeById(before.origin_id)?.outputs[before.origin_slot] ?? { links: [] }
      from.links = from.links.filter((id) => id !== before.id)
    }
    const id = this.graph.links.size + 1
    this.graph.links.set(id, { id, origin_id: this.id, origin_slot: slot, target_id: target.id, target_slot: index })
    this.outputs[slot].links.push(id)
    target.inputs[index].link = id
  }
}
