import assert from 'node:assert/strict'
import { test } from 'vitest'
import { Survey } from '../../js/lib/comfy/links.mjs'
import { plan } from '../../js/lib/state/plan.mjs'
import { Graph, generated, looped } from './graph.mjs'

const STATUS = { judge: 'runflow', prices: { standard: '0.10', thorough: '0.40' }, limit: 20 }
const planOf = (graph, node, status = STATUS) => plan(node, new Survey(graph), status)
const keys = (found) => [found.text]

function judged({ batch = 1, shows = true } = {}) {
  const made = generated({ batch })
  const { graph, decode } = made
  const evaluate = graph.put('RunflowEvaluateImage')
  graph.connect(decode, 0, evaluate, 'image')
  const show = graph.put('RunflowShowVerdict')
  if (shows) graph.connect(evaluate, 'evaluation', show, 'evaluation')
  return { ...made, evaluate, show }
}

test('a lone Evaluate costs one image, a batch as many as it has', () => {
  const one = judged()
  assert.deepEqual(keys(planOf(one.graph, one.evaluate)), ['plan.price'])
  assert.equal(planOf(one.graph, one.evaluate).most, '0.10')
  const four = judged({ batch: 4 })
  const found = planOf(four.graph, four.evaluate)
  assert.deepEqual([found.most, found.images, keys(found)], ['0.40', 4, ['plan.price_images']])
})

test('how many images a file has is not claimed', () => {
  const { graph, evaluate } = judged()
  const load = graph.put('LoadImage')
  graph.connect(load, 0, evaluate, 'image')
  const found = planOf(graph, evaluate)
  assert.deepEqual([found.images, found.most, keys(found)], [null, '2.00', ['plan.price_each']])
})

test('a loop costs all its attempts, behind whatever stands between Evaluate and End', () => {
  const plain = looped()
  assert.equal(planOf(plain.graph, plain.evaluate).most, '0.30')

  const rerouted = looped({ attempts: 5 })
  const reroute = rerouted.graph.put('Reroute')
  rerouted.graph.connect(rerouted.evaluate, 'evaluation', reroute, 0)
  rerouted.graph.connect(reroute, 0, rerouted.end, 'evaluation')
  assert.equal(planOf(rerouted.graph, rerouted.evaluate).most, '0.50')

  const parted = looped({ batch: 2, attempts: 4 })
  const split = parted.graph.put('RunflowSplitByVerdict')
  parted.graph.connect(parted.decode, 0, split, 'image')
  parted.graph.connect(parted.evaluate, 'evaluation', split, 'evaluation')
  parted.graph.connect(split, 'passed_evaluation', parted.end, 'evaluation')
  parted.graph.connect(split, 'passed_images', parted.end, 'image')
  assert.equal(planOf(parted.graph, parted.evaluate).most, '0.80')
})

test('Evaluate in a subgraph inside a loop costs all attempts', () => {
  const { graph, decode, end } = looped({ attempts: 4 })
  const inner = new Graph()
  const evaluate = inner.put('RunflowEvaluateImage')
  inner.expose(0, evaluate, 'image')
  inner.giveOut(evaluate, 'evaluation', 0)
  const host = inner.hostIn(graph, { ins: ['image:IMAGE'], outs: ['e:RUNFLOW_EVALUATION'] })
  graph.connect(decode, 0, host, 'image')
  graph.connect(host, 0, end, 'evaluation')
  const found = planOf(graph, evaluate)
  assert.deepEqual([found.runs, found.attempts, found.most], [true, 4, '0.40'])
})

test('two hosts of one subgraph pay twice', () => {
  const { graph, decode } = generated()
  const inner = new Graph()
  const evaluate = inner.put('RunflowEvaluateImage')
  const show = inner.put('RunflowShowVerdict')
  inner.expose(0, evaluate, 'image')
  inner.connect(evaluate, 'evaluation', show, 'evaluation')
  for (let n = 0; n < 2; n++) {
    graph.connect(decode, 0, inner.hostIn(graph, { ins: ['image:IMAGE'] }), 'image')
  }
  assert.equal(planOf(graph, evaluate).most, '0.20')
})

test('loops in loops multiply, an inner loop that the outer one does not change does not', () => {
  const { graph, evaluate, start, end, encode } = looped({ attempts: 3 })
  const outer = graph.put('RunflowRegenerateStart')
  const last = graph.put('RunflowRegenerateEnd', { values: { max_attempts: 2 } })
  const save = graph.put('SaveImage')
  graph.connect(outer, 'loop', last, 'loop')
  graph.connect(end, 'best_image', last, 'image')
  graph.connect(last, 'best_image', save, 'images')
  assert.equal(planOf(graph, evaluate).most, '0.30')
  graph.connect(outer, 'current_prompt', start, 'prompt')
  assert.equal(planOf(graph, evaluate).most, '0.60')
  graph.connect(outer, 'current_prompt', encode, 'text')
  assert.equal(planOf(graph, evaluate).most, '0.60')
})

test('max_attempts from elsewhere is read where it is plain, else the limit of the Run counts', () => {
  const { graph, evaluate, end } = looped()
  const number = graph.put('PrimitiveInt', { values: { value: 7 } })
  graph.connect(number, 0, end, 'max_attempts')
  assert.equal(planOf(graph, evaluate).most, '0.70')
  const strange = graph.put('Math', {
    outputs: ['INT:INT'],
    data: { python_module: 'custom_nodes.m' }
  })
  graph.connect(strange, 0, end, 'max_attempts')
  const found = planOf(graph, evaluate)
  assert.deepEqual([found.most, found.open, keys(found)], ['2.00', true, ['plan.price_open']])
})

test('the job class is read through reroutes and subgraphs; where it is not plain, the dearest counts', () => {
  const { graph, evaluate } = judged()
  const options = graph.put('RunflowEvaluationOptions', { values: { job_class: 'thorough' } })
  const reroute = graph.put('Reroute')
  graph.connect(options, 0, reroute, 0)
  graph.connect(reroute, 0, evaluate, 'options')
  assert.equal(planOf(graph, evaluate).most, '0.40')
  options.widget('job_class').value = 'standard'
  assert.equal(planOf(graph, evaluate).most, '0.10')
  const choice = graph.put('Switch', {
    outputs: ['*:*'],
    data: { python_module: 'custom_nodes.s' }
  })
  graph.connect(choice, 0, evaluate, 'options')
  assert.equal(planOf(graph, evaluate).price, '0.40')
})

test('between nodes of other packs, and behind a list, it may judge up to the limit', () => {
  const theirs = { python_module: 'custom_nodes.loops' }
  const { graph, evaluate, decode, show } = judged()
  const open = graph.put('forLoopStart', { inputs: ['a:*'], outputs: ['a:*'], data: theirs })
  graph.connect(decode, 0, open, 'a')
  graph.connect(open, 0, evaluate, 'image')
  assert.deepEqual(keys(planOf(graph, evaluate)), ['plan.price_each'])
  const close = graph.put('forLoopEnd', { inputs: ['a:*'], data: theirs, output: true })
  graph.connect(evaluate, 'evaluation', close, 'a')
  assert.deepEqual(keys(planOf(graph, evaluate)), ['plan.price_open'])
  assert.equal(planOf(graph, show).runs, true)

  const linked = judged()
  const first = linked.graph.put('Begin', {
    inputs: ['a:*'],
    outputs: ['a:*', 'flow:*'],
    data: theirs
  })
  const last = linked.graph.put('Finish', { inputs: ['a:*', 'flow:*'], data: theirs, output: true })
  linked.graph.connect(linked.decode, 0, first, 'a')
  linked.graph.connect(first, 'a', linked.evaluate, 'image')
  linked.graph.connect(linked.evaluate, 'evaluation', last, 'a')
  assert.deepEqual(keys(planOf(linked.graph, linked.evaluate)), ['plan.price_each'])
  linked.graph.connect(first, 'flow', last, 'flow')
  assert.deepEqual(keys(planOf(linked.graph, linked.evaluate)), ['plan.price_open'])

  const listed = judged()
  const list = listed.graph.put('RebatchImages', {
    inputs: ['images:IMAGE'],
    outputs: ['IMAGE:IMAGE'],
    data: { output_is_list: [true] }
  })
  listed.graph.connect(listed.decode, 0, list, 'images')
  listed.graph.connect(list, 0, listed.evaluate, 'image')
  assert.equal(planOf(listed.graph, listed.evaluate).most, '2.00')
})

test('what will not run says why', () => {
  const { graph, evaluate, show, decode } = judged()
  const why = (node) => planOf(graph, node).text
  assert.equal(planOf(graph, evaluate).runs, true)
  decode.mode = 2
  assert.equal(why(evaluate), 'plan.no_image')
  decode.mode = 0
  show.mode = 2
  assert.equal(why(evaluate), 'plan.no_output')
  show.mode = 0
  evaluate.mode = 4
  assert.equal(why(evaluate), 'plan.bypassed')
  assert.equal(why(show), 'plan.connect')
})

test('a mute between Evaluate and every output is seen', () => {
  const { graph, evaluate } = judged({ shows: false })
  const text = graph.put('Text', { inputs: ['a:STRING'], outputs: ['a:STRING'] })
  const shown = graph.put('ShowText', { inputs: ['a:STRING'], output: true })
  graph.connect(evaluate, 'issues', text, 'a')
  graph.connect(text, 0, shown, 'a')
  assert.equal(planOf(graph, evaluate).runs, true)
  text.mode = 2
  assert.deepEqual(keys(planOf(graph, evaluate)), ['plan.no_output'])
})

test('no “will not run” is said where Set and Get, or another pack, may make it run', () => {
  const { graph, evaluate } = judged({ shows: false })
  const set = graph.put('SetNode', { values: { name: 'e' } })
  const get = graph.put('GetNode', { values: { name: 'e' } })
  const show = graph.put('RunflowShowVerdict')
  graph.connect(evaluate, 'evaluation', set, 0)
  graph.connect(get, 0, show, 'evaluation')
  for (const node of [evaluate, show]) assert.equal(planOf(graph, node).runs, true)

  const open = new Graph()
  const alone = open.put('RunflowEvaluateImage')
  const verdict = open.put('RunflowShowVerdict')
  open.put('Anything Everywhere')
  for (const node of [alone, verdict]) {
    const found = planOf(open, node)
    assert.equal(found.runs, node === alone ? null : true)
    assert.equal(found.warns, false)
  }
})

test('a node in a muted subgraph does not run', () => {
  const inner = new Graph()
  const evaluate = inner.put('RunflowEvaluateImage')
  const graph = new Graph()
  inner.hostIn(graph, { mode: 4 })
  assert.deepEqual(keys(planOf(graph, evaluate)), ['plan.host_off'])
})

test('who judges decides what is said', () => {
  const { graph, evaluate } = judged()
  const says = (judge, own) => {
    evaluate.widget('judge').value = judge
    return keys(planOf(graph, evaluate, { ...STATUS, judge: own }))[0]
  }
  assert.equal(says('auto', 'local'), 'plan.ask_key')
  assert.equal(says('runflow', 'local'), 'plan.needs_key')
  assert.equal(says('local', 'runflow'), 'plan.local')
  assert.equal(says('off', 'runflow'), 'plan.off')
  assert.equal(says('person', 'runflow'), 'plan.person')
  assert.equal(says('auto', 'model'), 'plan.model')
  evaluate.widget('evaluation_instructions').value = 'five fingers'
  assert.equal(says('auto', 'local'), 'plan.content_needs_key')
  const text = graph.put('PrimitiveStringMultiline', { values: { value: 'local' } })
  graph.connect(text, 0, evaluate, 'judge')
  assert.equal(says('runflow', 'runflow'), 'plan.local', 'a linked judge is the one that counts')
})

test('without prices no sum is said', () => {
  const { graph, evaluate } = judged()
  assert.deepEqual(keys(planOf(graph, evaluate, null)), ['plan.no_price'])
})

test('in a loop, a seed or a prompt that changes by itself is said before Run', () => {
  const says = (change) => {
    const made = looped()
    change(made)
    const found = planOf(made.graph, made.evaluate)
    assert.equal(found.warns, found.text.endsWith('_anew'))
    assert.equal(found.most, '0.30')
    return found.values.node
  }
  const seed = (made, value) => {
    const node = made.graph.put('Seed (rgthree)', {
      outputs: ['SEED:INT'],
      widgets: { seed: value }
    })
    made.graph.connect(node, 0, made.start, 'seed')
  }
  assert.equal(
    says(() => {}),
    undefined
  )
  assert.equal(
    says((made) => seed(made, -1)),
    'Seed (rgthree)'
  )
  assert.equal(
    says((made) => seed(made, 5)),
    undefined
  )
  assert.equal(
    says(({ start }) => {
      Object.assign(start.widget('seed'), { value: -1, serializeValue: () => 4 })
    }),
    'RunflowRegenerateStart',
    'other packs let the editor replace a seed too'
  )
  const globally = (action, mode = 0) =>
    says((made) => {
      const node = made.graph.put('GlobalSeed //Inspire', { mode, widgets: { value: 3, action } })
      node.widget('action').options = { values: ['fixed', 'randomize', 'randomize for each node'] }
    })
  assert.deepEqual(
    [globally('randomize for each node'), globally('fixed'), globally('randomize', 4)],
    ['GlobalSeed //Inspire', undefined, undefined],
    'what writes into every seed is linked to none'
  )
  const control = (made) => {
    made.start.widget('control_after_generate').value = 'randomize'
  }
  assert.equal(says(control), 'RunflowRegenerateStart')
  assert.equal(
    says((made) => {
      const primitive = made.graph.put('PrimitiveNode', {
        widgets: { value: 3, control_after_generate: 'increment' }
      })
      made.graph.connect(primitive, 0, made.start, 'seed')
      control(made)
    }),
    'PrimitiveNode'
  )
  assert.equal(
    says(({ start }) => {
      Object.assign(start.widget('prompt'), { value: 'a {red|blue} car', dynamicPrompts: true })
    }),
    'RunflowRegenerateStart'
  )
})

test('200 judges in one graph are planned within a frame or three', () => {
  const { graph, decode } = generated()
  const all = []
  for (let n = 0; n < 200; n++) {
    const evaluate = graph.put('RunflowEvaluateImage')
    const show = graph.put('RunflowShowVerdict')
    graph.connect(decode, 0, evaluate, 'image')
    graph.connect(evaluate, 'evaluation', show, 'evaluation')
    all.push(evaluate, show)
  }
  const times = [1, 2, 3, 4, 5].map(() => {
    const began = performance.now()
    const survey = new Survey(graph)
    for (const node of all) plan(node, survey, STATUS)
    return performance.now() - began
  })
  const took = Math.min(...times) // what else the machine does meanwhile is in the others
  assert.ok(took < 500, `${times} ms`)
  console.debug(`200 judges planned in ${took.toFixed(0)} ms`)
})
