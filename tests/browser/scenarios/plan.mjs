/** What a node says before Run that it will cost, beside what was billed; and what it says that will not run. */
import { expect } from '../editor.mjs'
import { unique } from '../workflows.mjs'

/**
 * Graphs, as functions that run in the page: `add(type, values)` makes a node, `wire(from, output, to, input)` a link.
 * They return the node that judges and how many images each evaluation has.
 */
const GRAPHS = {
  alone: `const image = made(1); return shown(judge(image), 1)`,
  batch: `const image = made(3); return shown(judge(image), 3)`,
  loop: `const { evaluate } = loop(3); return { evaluate, images: 1 }`,
  loop_of_batches: `const { evaluate } = loop(2, 2); return { evaluate, images: 2 }`,
  rerouted: `
    const { evaluate, end } = loop(3)
    const reroute = add('Reroute')
    wire(evaluate, 'evaluation', reroute, 0)
    wire(reroute, 0, end, 'evaluation')
    return { evaluate, images: 1 }`,
  split: `
    const { evaluate, decode } = loop(3)
    const split = add('RunflowSplitByVerdict')
    wire(decode, 0, split, 'image')
    wire(evaluate, 'evaluation', split, 'evaluation')
    wire(split, 'failed_images', add('PreviewImage'), 'images')
    return { evaluate, images: 1 }`,
  picked: `
    const { evaluate, end, decode } = loop(2, 3)
    const pick = add('RunflowPickBest')
    wire(decode, 0, pick, 'image')
    wire(evaluate, 'evaluation', pick, 'evaluation')
    wire(pick, 'picked_image', end, 'image')
    wire(pick, 'best_evaluation', end, 'evaluation')
    return { evaluate, images: 3 }`,
  subgraph: `
    const { evaluate } = loop(3)
    const { subgraph } = graph.convertToSubgraph(new Set([evaluate]))
    return { evaluate: subgraph.nodes.find(({ type }) => type === 'RunflowEvaluateImage'), images: 1 }`,
  whole_in_subgraph: `
    loop(3)
    const inside = graph.nodes.filter(({ type }) => type !== 'PreviewImage')
    const { subgraph } = graph.convertToSubgraph(new Set(inside))
    return { evaluate: subgraph.nodes.find(({ type }) => type === 'RunflowEvaluateImage'), images: 1 }`,
  linked_attempts: `
    const { evaluate, end } = loop(3)
    wire(add('PrimitiveInt', { value: 2 }), 0, end, 'max_attempts')
    return { evaluate, images: 1 }`,
  options_from_elsewhere: `
    const { evaluate } = loop(2)
    const reroute = add('Reroute')
    wire(add('RunflowEvaluationOptions', { job_class: 'standard' }), 0, reroute, 0)
    wire(reroute, 0, evaluate, 'options')
    return { evaluate, images: 1 }`,
  nested: `
    const { evaluate, start, end } = loop(2)
    const outer = add('RunflowRegenerateStart', { prompt: text })
    const last = add('RunflowRegenerateEnd', { max_attempts: 2 })
    const again = judge(end)
    wire(outer, 'current_prompt', start, 'prompt')
    wire(outer, 'current_seed', start, 'seed')
    wire(outer, 'loop', last, 'loop')
    wire(end, 'best_image', last, 'image')
    wire(end, 'best_evaluation', last, 'evaluation')
    wire(last, 'best_image', add('PreviewImage'), 'images')
    graph.remove(again)
    return { evaluate, images: 1 }`,
  list: `
    const list = add('RebatchImages', { batch_size: 1 })
    wire(made(3), 0, list, 'images')
    return shown(judge(list), 3)`
}

/** What the graphs are built with; `text` is a prompt that no other run had. */
const HELPERS = `
  const { app, LiteGraph } = window
  const graph = app.graph
  const add = (type, values = {}) => {
    const node = LiteGraph.createNode(type)
    node.pos = [graph.nodes.length * 300, 0]
    graph.add(node)
    for (const [name, value] of Object.entries(values)) node.widgets.find((each) => each.name === name).value = value
    return node
  }
  const at = (slots, name) => (typeof name === 'number' ? name : slots.findIndex((each) => each.name === name))
  const wire = (from, output, to, input) => from.connect(at(from.outputs, output), to, at(to.inputs, input))
  const chain = (batch) => {
    const encode = add('StandInEncode', { text })
    const sampler = add('StandInSampler', { seed: 7 })
    const decode = add('StandInDecode', { batch })
    wire(encode, 0, sampler, 'positive')
    wire(sampler, 0, decode, 'samples')
    return { encode, sampler, decode }
  }
  const made = (batch) => chain(batch).decode
  const judge = (image) => {
    const node = add('RunflowEvaluateImage', { generation_prompt: text })
    wire(image, 0, node, 'image')
    return node
  }
  const shown = (evaluate, images) => {
    wire(evaluate, 'evaluation', add('RunflowShowVerdict'), 'evaluation')
    return { evaluate, images }
  }
  const loop = (attempts, batch = 1) => {
    const { encode, sampler, decode } = chain(batch)
    const start = add('RunflowRegenerateStart', { prompt: text })
    const end = add('RunflowRegenerateEnd', { max_attempts: attempts })
    const evaluate = judge(decode)
    wire(start, 'current_prompt', encode, 'text')
    wire(start, 'current_seed', sampler, 'seed')
    wire(start, 'current_prompt', evaluate, 'generation_prompt')
    wire(start, 'loop', end, 'loop')
    wire(decode, 0, end, 'image')
    wire(evaluate, 'evaluation', end, 'evaluation')
    wire(end, 'best_image', add('PreviewImage'), 'images')
    return { start, evaluate, end, encode, sampler, decode }
  }
`

/** The graphs' names. */
export const graphs = () => Object.keys(GRAPHS)

async function build(editor, name) {
  await editor.in(() => window.app.graph.clear())
  const body = `${HELPERS} const build = () => { ${GRAPHS[name]} }; return build()`
  const found = await editor.in(
    ([code, text]) => {
      const { evaluate, images } = new Function('text', code)(text)
      window.judged = evaluate
      return images
    },
    [body, unique('a lake')]
  )
  await editor.frames()
  return found
}

/** What the plan says of the node that judges. */
function planned(editor) {
  return editor.in(async () => {
    const base = new URL('lib/', document.querySelector('link[href$="runflow.css"]').href).href
    const [{ plan }, { Survey }, { status }] = await Promise.all(
      ['state/plan.mjs', 'comfy/links.mjs', 'server.mjs'].map((each) => import(base + each))
    )
    const { text, values, most, price, attempts, runs, warns } = plan(window.judged, new Survey(window.app.rootGraph ?? window.app.graph), await status())
    return { text, values, most, price, attempts, runs, warns }
  })
}

const spent = (editor) =>
  editor.in(async () => {
    const answer = await window.comfyAPI.api.api.fetchApi('/runflow-evaluate/days?days=1')
    return Number((await answer.json()).today.credits)
  })

/** Build a graph, say what it will cost, run it, and say what was billed. */
export async function beside_the_bill(editor, { graph }) {
  const images = await build(editor, graph)
  const before = await spent(editor)
  const plan = await planned(editor)
  const ended = await editor.runToTheEnd()
  expect(ended === 'execution_success', 'it runs', ended)
  return { ...plan, images, billed: (await spent(editor)) - before }
}
