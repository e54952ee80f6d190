/**
 * As much of LiteGraph as following links needs, for tests in Node: nodes with slots and widgets, links, subgraphs
 * with hosts. The browser scenarios do the same on the real one.
 */

const OURS = {
  RunflowEvaluateImage: {
    inputs: ['image:IMAGE', 'options:RUNFLOW_OPTIONS', 'references:RUNFLOW_REFERENCES'],
    outputs: [
      'passed:BOOLEAN',
      'score:FLOAT',
      'issues:STRING',
      'improved_prompt:STRING',
      'evaluation:RUNFLOW_EVALUATION'
    ],
    widgets: { generation_prompt: '', evaluation_instructions: '', judge: 'auto' }
  },
  RunflowShowVerdict: { inputs: ['evaluation:RUNFLOW_EVALUATION'], output: true },
  RunflowEvaluationOptions: {
    outputs: ['options:RUNFLOW_OPTIONS'],
    widgets: { job_class: 'standard' }
  },
  RunflowSplitByVerdict: {
    inputs: ['image:IMAGE', 'evaluation:RUNFLOW_EVALUATION'],
    outputs: ['passed_images:IMAGE', 'passed_evaluation:RUNFLOW_EVALUATION']
  },
  RunflowRegenerateStart: {
    outputs: [
      'loop:RUNFLOW_LOOP',
      'current_prompt:STRING',
      'current_seed:INT',
      'attempt:INT',
      'previous_issues:STRING',
      'original_prompt:STRING',
      'best_so_far:IMAGE',
      'repair_prompt:STRING'
    ],
    widgets: { prompt: '', seed: 0, control_after_generate: 'fixed' }
  },
  RunflowRegenerateEnd: {
    inputs: ['loop:RUNFLOW_LOOP', 'image:IMAGE', 'evaluation:RUNFLOW_EVALUATION'],
    outputs: ['best_image:IMAGE', 'passed:BOOLEAN'],
    widgets: { max_attempts: 3 }
  },
  CLIPTextEncode: { outputs: ['CONDITIONING:CONDITIONING'], widgets: { text: '' } },
  KSampler: {
    inputs: ['positive:CONDITIONING', 'negative:CONDITIONING', 'latent_image:LATENT'],
    outputs: ['LATENT:LATENT'],
    widgets: { seed: 0, control_after_generate: 'fixed', denoise: 1 }
  },
  RunflowRepairSwitch: {
    inputs: ['attempt:INT', 'generate:*', 'repair:*'],
    outputs: ['output:*'],
    widgets: { repair_from: 2 }
  },
  VAELoader: { outputs: ['VAE:VAE'] },
  VAEEncode: { inputs: ['pixels:IMAGE', 'vae:VAE'], outputs: ['LATENT:LATENT'] },
  PrimitiveFloat: { outputs: ['FLOAT:FLOAT'], widgets: { value: 0 } },
  EmptyLatentImage: { outputs: ['LATENT:LATENT'], widgets: { batch_size: 1 } },
  VAEDecode: { inputs: ['samples:LATENT', 'vae:VAE'], outputs: ['IMAGE:IMAGE'] },
  LoadImage: { outputs: ['IMAGE:IMAGE'], widgets: { image: 'example.png' } },
  PreviewImage: { inputs: ['images:IMAGE'], output: true },
  SaveImage: { inputs: ['images:IMAGE'], output: true },
  PrimitiveInt: { outputs: ['INT:INT'], widgets: { value: 0 } },
  PrimitiveStringMultiline: { outputs: ['STRING:STRING'], widgets: { value: '' } },
  Reroute: { inputs: [':*'], outputs: [':*'], virtual: true },
  'Reroute (rgthree)': { inputs: [':*'], outputs: [':*'], virtual: true },
  SetNode: { inputs: ['*:*'], outputs: ['*:*'], widgets: { name: '' }, virtual: true },
  GetNode: { outputs: ['*:*'], widgets: { name: '' }, virtual: true },
  PrimitiveNode: { outputs: ['value:*'], widgets: { value: 0 }, virtual: true }
}

const slot = (text) => {
  const [name, type] = text.split(':')
  return { name, type, link: null }
}

export class Graph {
  nodes = []
  links = new Map()
  inputs = []
  outputs = []
  outputNode = { slots: [], arrange() {} }

  /** @param {string} type @param {object} [more] widgets' values, `mode`, or what else the type would say */
  put(type, { values = {}, mode = 0, title = type, ...more } = {}) {
    const description = { ...OURS[type], ...more }
    const node = new Node(this, type, { mode, title, ...description })
    for (const each of node.widgets) if (each.name in values) each.value = values[each.name]
    this.nodes.push(node)
    return node
  }

  /** A node that shows this graph inside another one. `ins` and `outs` are what was exposed, in order. */
  hostIn(outer, { ins = [], outs = [], mode = 0, values = {} } = {}) {
    return outer.put('a-subgraph', {
      inputs: ins,
      outputs: outs,
      subgraph: this,
      mode,
      widgets: values,
      virtual: true
    })
  }

  /** An input of this subgraph feeds an input of a node in it. */
  expose(index, node, input) {
    this.#join({ origin_id: -10, origin_slot: index }, node, input)
  }

  /** An output of a node is an output of this subgraph. */
  giveOut(node, output, index) {
    const link = { origin_id: node.id, origin_slot: node.out(output) }
    this.outputNode.slots[index] = { getLinks: () => [link] }
    this.outputs[index] = { connect: (made, from) => this.giveOut(from, made.name, index) }
  }

  connect(from, output, to, input) {
    this.#join({ origin_id: from.id, origin_slot: from.out(output) }, to, input)
  }

  #join(origin, node, input) {
    const index = node.in(input)
    const id = this.links.size + 1
    this.links.set(id, { id, ...origin, target_id: node.id, target_slot: index })
    node.inputs[index].link = id
  }

  getLink(id) {
    return this.links.get(id) ?? null
  }

  getNodeById(id) {
    return this.nodes.find((node) => node.id === id) ?? null
  }
}

class Node {
  pos = [0, 0]
  size = [200, 100]
  properties = {}

  constructor(graph, type, { inputs = [], outputs = [], widgets = {}, ...more }) {
    const { output = false, virtual = false, subgraph, data = {}, mode, title } = more
    const id = graph.nodes.length + 1
    Object.assign(this, { graph, type, id, comfyClass: type, mode, title, isVirtualNode: virtual })
    if (subgraph) this.subgraph = subgraph
    const typeOf = (value) => (typeof value === 'string' ? 'STRING' : 'INT')
    this.inputs = inputs.map(slot)
    for (const [name, value] of Object.entries(widgets)) {
      const own = this.inputs.find((each) => each.name === name)
      if (own) own.widget = { name }
      else this.inputs.push({ name, type: typeOf(value), link: null, widget: { name } })
    }
    if (virtual && !subgraph) this.inputs = inputs.map(slot)
    this.outputs = outputs.map(slot)
    this.widgets = Object.entries(widgets).map(([name, value]) => ({
      name,
      value,
      type: typeof value === 'string' ? 'customtext' : 'number'
    }))
    const nodeData = { output_node: output, python_module: 'nodes', ...data }
    Object.defineProperty(this, 'constructor', { value: { nodeData } })
  }

  in(input) {
    return typeof input === 'number' ? input : this.inputs.findIndex(({ name }) => name === input)
  }

  out(output) {
    return typeof output === 'number'
      ? output
      : this.outputs.findIndex(({ name }) => name === output)
  }

  widget(name) {
    return this.widgets.find((each) => each.name === name)
  }

  connect(output, node, input) {
    this.graph.connect(this, output, node, input)
  }
}

/** Encode → sample → decode → save. */
export function generated({ batch = 1 } = {}) {
  const graph = new Graph()
  const encode = graph.put('CLIPTextEncode', { values: { text: 'a lake' } })
  const negative = graph.put('CLIPTextEncode', { values: { text: 'ugly' } })
  const empty = graph.put('EmptyLatentImage', { values: { batch_size: batch } })
  const sampler = graph.put('KSampler', { values: { seed: 7 } })
  const decode = graph.put('VAEDecode')
  const save = graph.put('SaveImage')
  graph.connect(encode, 0, sampler, 'positive')
  graph.connect(negative, 0, sampler, 'negative')
  graph.connect(empty, 0, sampler, 'latent_image')
  graph.connect(sampler, 0, decode, 'samples')
  graph.connect(decode, 0, save, 'images')
  return { graph, encode, negative, empty, sampler, decode, save }
}

/** The same with a loop around it. `between` is put between Evaluate and End. */
export function looped({ batch = 1, attempts = 3 } = {}) {
  const made = generated({ batch })
  const { graph, encode, sampler, decode, save } = made
  const start = graph.put('RunflowRegenerateStart')
  const evaluate = graph.put('RunflowEvaluateImage')
  const end = graph.put('RunflowRegenerateEnd', { values: { max_attempts: attempts } })
  graph.connect(start, 'current_prompt', encode, 'text')
  graph.connect(start, 'current_seed', sampler, 'seed')
  graph.connect(decode, 0, evaluate, 'image')
  graph.connect(start, 'loop', end, 'loop')
  graph.connect(decode, 0, end, 'image')
  graph.connect(evaluate, 'evaluation', end, 'evaluation')
  graph.connect(end, 'best_image', save, 'images')
  return { ...made, start, evaluate, end }
}
