import assert from 'node:assert/strict'
import { afterEach, beforeEach, test } from 'vitest'
import { open } from '../../js/lib/comfy/app.mjs'
import { inputIndex, linkInto, sourceOf } from '../../js/lib/comfy/links.mjs'
import { checkQuality, imageOf, loopParts, regenerate } from '../../js/lib/gestures/insert.mjs'
import { sayPrice } from '../../js/lib/gestures/price.mjs'
import { repair, repairParts } from '../../js/lib/gestures/repair.mjs'
import { attemptOffer, promptWrites, takeAttempt } from '../../js/lib/gestures/take_attempt.mjs'
import { Graph, generated, looped } from './graph.mjs'

const at = (node, input) => sourceOf({ node, hosts: [] }, input).place?.node ?? null
const creator = (graph) => (type) => graph.put(type)
const last = (graph, type) => graph.nodes.filter((node) => node.type === type).at(-1)

/** A template as ComfyUI ships them: a subgraph that promotes `text` and `seed`, an image, and what saves it. */
function template() {
  const inner = generated()
  inner.graph.expose(0, inner.encode, 'text')
  inner.graph.expose(1, inner.sampler, 'seed')
  inner.graph.giveOut(inner.decode, 0, 0)
  const graph = new Graph()
  const host = inner.graph.hostIn(graph, {
    outs: ['IMAGE:IMAGE'],
    values: { text: 'a pier at dusk', seed: 5 }
  })
  const save = graph.put('SaveImage')
  graph.connect(host, 0, save, 'images')
  return { graph, inner, host, save }
}

const said = []
beforeEach(() => {
  said.length = 0
})
afterEach(() => open(null, null))

/** The page on this graph. */
function page(graph) {
  const canvas = { emitBeforeChange() {}, emitAfterChange() {}, setDirty() {} }
  const toast = { add: ({ severity, detail }) => said.push(`${severity}: ${detail}`) }
  open({ rootGraph: graph, canvas, extensionManager: { toast } }, {})
}

test('“check quality” wires the prompt: a later change of it is judged too', () => {
  const { graph, encode, decode } = generated()
  const { evaluate, said: trouble } = checkQuality(decode, creator(graph))
  const text = at(encode, 'text')
  assert.deepEqual([trouble, text.type], ['', 'PrimitiveStringMultiline'])
  assert.equal(text.widget('value').value, 'a lake')
  assert.equal(at(evaluate, 'generation_prompt'), text)
  assert.equal(at(evaluate, 'image'), decode)
  assert.equal(at(last(graph, 'RunflowShowVerdict'), 'evaluation'), evaluate)
})

test('“check quality” wires what is wired to the encoder, whatever it is', () => {
  const { graph, encode, decode } = generated()
  const wildcards = graph.put('ImpactWildcardProcessor', {
    outputs: ['processed text:STRING'],
    widgets: { wildcard_text: '__animal__', populated_text: 'a cat', mode: 'populate' }
  })
  graph.connect(wildcards, 0, encode, 'text')
  const { evaluate } = checkQuality(decode, creator(graph))
  assert.equal(at(evaluate, 'generation_prompt'), wildcards)
})

test('a prompt with alternatives is not wired, and that is said', () => {
  const { graph, encode, decode } = generated()
  encode.widget('text').value = 'a {red|blue} lake'
  const { evaluate, said: trouble } = checkQuality(decode, creator(graph))
  assert.equal(trouble, 'gestures.alternatives')
  assert.equal(at(evaluate, 'generation_prompt'), null)
  assert.equal(at(encode, 'text'), null, 'what makes the image is left alone')
})

test('“check quality” finds the prompt that a template’s host promotes', () => {
  const { graph, host } = template()
  const { evaluate, said: trouble } = checkQuality(host, creator(graph))
  const text = at(host, 'text')
  assert.deepEqual([trouble, text.widget('value').value], ['', 'a pier at dusk'])
  assert.equal(at(evaluate, 'generation_prompt'), text)
})

test('from what saves a template’s image, its host is meant, and not a node inside of it', () => {
  const { graph, host } = template()
  const save = graph.put('SaveImageAdvanced', {
    inputs: ['images:IMAGE'],
    outputs: ['images:IMAGE'],
    output: true
  })
  graph.connect(host, 0, save, 'images')
  assert.equal(imageOf(save), host)
  assert.equal(loopParts(save)?.seed.spot.place.node, host)
  const { evaluate } = checkQuality(imageOf(save), creator(graph))
  assert.equal(linkInto(evaluate, inputIndex(evaluate, 'image')).origin_id, host.id)
})

test('a prompt behind a switch is led out of a template while the switch hands it on unchanged', () => {
  const found = (enhance) => {
    const inner = generated()
    const text = inner.graph.put('PrimitiveStringMultiline')
    const writer = inner.graph.put('TextGenerate', {
      outputs: ['generated_text:STRING'],
      widgets: { prompt: '' }
    })
    const choose = inner.graph.put('ComfySwitchNode', {
      inputs: ['on_false:*', 'on_true:*', 'switch:BOOLEAN'],
      outputs: ['output:*'],
      widgets: { switch: true }
    })
    const shown = inner.graph.put('PreviewAny', {
      inputs: ['source:*'],
      outputs: ['STRING:STRING']
    })
    inner.graph.connect(text, 0, writer, 'prompt')
    inner.graph.connect(text, 0, choose, 'on_false')
    inner.graph.connect(writer, 0, choose, 'on_true')
    inner.graph.connect(choose, 0, shown, 'source')
    inner.graph.connect(shown, 0, inner.encode, 'text')
    inner.graph.expose(0, text, 'value')
    inner.graph.expose(1, choose, 'switch')
    inner.graph.giveOut(inner.decode, 0, 0)
    const graph = new Graph()
    const values = { value: 'a red fox', switch: enhance }
    const host = inner.graph.hostIn(graph, { outs: ['IMAGE:IMAGE'], values })
    const { evaluate, said: trouble } = checkQuality(host, creator(graph))
    return [
      trouble,
      at(host, 'value')?.widget('value').value,
      at(evaluate, 'generation_prompt')?.type
    ]
  }
  assert.deepEqual(found(false), ['', 'a red fox', 'PrimitiveStringMultiline'])
  assert.deepEqual(found(true), ['gestures.no_prompt', undefined, undefined])
})

test('“regenerate” feeds text and seed of a template’s host', () => {
  const { graph, host, save } = template()
  assert.equal(imageOf(host), host)
  const { end, said: trouble } = regenerate(loopParts(host), creator(graph))
  const start = at(end, 'loop')
  assert.equal(trouble, '')
  assert.deepEqual([at(host, 'text'), at(host, 'seed')], [start, start])
  assert.deepEqual(
    [start.widget('prompt').value, start.widget('seed').value],
    ['a pier at dusk', 5]
  )
  assert.equal(at(save, 'images'), end)
  assert.equal(linkInto(end, inputIndex(end, 'image')).origin_id, host.id)
  assert.equal(loopParts(host), null, 'a loop is not put into a loop')
})

test('what a host does not promote becomes an input of its subgraph', () => {
  const inner = generated()
  inner.graph.giveOut(inner.decode, 0, 0)
  const graph = new Graph()
  const host = inner.graph.hostIn(graph, { outs: ['IMAGE:IMAGE'] })
  inner.graph.addInput = (name, type) => {
    host.inputs.push({ name, type, link: null, widget: { name } })
    host.widgets.push({ name, value: inner.encode.widget(name)?.value ?? 7, type: 'customtext' })
    const index = host.inputs.length - 1
    const connect = (slot, node) => {
      inner.graph.expose(index, node, slot.name)
      return {}
    }
    return { connect }
  }
  const { end } = regenerate(loopParts(host), creator(graph))
  const start = at(end, 'loop')
  assert.deepEqual([at(host, 'text'), at(host, 'seed')], [start, start])
})

test('a subgraph that is used twice is not changed behind the other’s back', () => {
  const inner = generated()
  inner.graph.giveOut(inner.decode, 0, 0)
  const graph = new Graph()
  const host = inner.graph.hostIn(graph, { outs: ['IMAGE:IMAGE'] })
  inner.graph.hostIn(graph, { outs: ['IMAGE:IMAGE'] })
  inner.graph.addInput = () => assert.fail('the subgraph was changed')
  assert.equal(checkQuality(host, creator(graph)).said, 'gestures.no_prompt')
})

test('where no prompt reaches the image, a loop does not pay for better ones', () => {
  const { graph, sampler, decode } = generated()
  const strange = graph.put('Strange', { outputs: ['CONDITIONING:CONDITIONING'] })
  graph.connect(strange, 0, sampler, 'positive')
  OURS_END.next_prompt = 'improved'
  const create = (type) =>
    graph.put(type, type === 'RunflowRegenerateEnd' ? { widgets: OURS_END } : {})
  const { end, said: trouble } = regenerate(loopParts(decode), create)
  assert.deepEqual([trouble, end.widget('next_prompt').value], ['gestures.seed_only', 'keep'])
})
const OURS_END = { max_attempts: 3, next_prompt: 'improved' }

test('the output decides which prompt a node with two conditionings means', () => {
  const { graph, sampler, decode, encode } = generated()
  const control = graph.put('ControlNetApply', {
    inputs: ['negative:CONDITIONING', 'positive:CONDITIONING'],
    outputs: ['positive:CONDITIONING', 'negative:CONDITIONING']
  })
  graph.connect(encode, 0, control, 'positive')
  graph.connect(last(graph, 'CLIPTextEncode'), 0, control, 'negative')
  graph.connect(control, 'positive', sampler, 'positive')
  const { evaluate } = checkQuality(decode, creator(graph))
  assert.equal(at(evaluate, 'generation_prompt'), at(encode, 'text'))
})

test('a Primitive’s value goes to Start, and Start to what it fed', () => {
  const { graph, encode, sampler } = generated()
  const text = graph.put('PrimitiveNode', { widgets: { value: 'a hill' }, outputs: ['v:STRING'] })
  graph.connect(text, 0, encode, 'text')
  const { end } = regenerate(loopParts(sampler), creator(graph))
  const start = at(end, 'loop')
  assert.deepEqual([at(start, 'prompt'), at(encode, 'text')], [text, start])
})

test('“repair” runs the same sampler on the best image, with less denoise', () => {
  const { graph, sampler, decode } = generated()
  assert.equal(repairParts(sampler), null, 'without a VAE there is nothing to encode with')
  const vae = graph.put('VAELoader')
  const empty = graph.put('EmptyLatentImage')
  graph.connect(vae, 0, decode, 'vae')
  graph.connect(empty, 0, sampler, 'latent_image')
  sampler.widget('denoise').value = 0.9
  const { end, said: trouble } = repair(repairParts(sampler), creator(graph))
  const start = at(end, 'loop')
  const [latent, denoise] = [at(sampler, 'latent_image'), at(sampler, 'denoise')]
  assert.deepEqual([trouble, latent.type, denoise.type], ['', 'RunflowRepairSwitch', latent.type])
  assert.deepEqual([at(latent, 'attempt'), at(denoise, 'attempt')], [start, start])
  const encode = at(latent, 'repair')
  assert.deepEqual([at(latent, 'generate'), at(encode, 'vae')], [empty, vae])
  assert.equal(linkInto(encode, inputIndex(encode, 'pixels')).origin_slot, 6, 'best_so_far')
  const values = ['generate', 'repair'].map((name) => at(denoise, name).widget('value').value)
  assert.deepEqual(values, [0.9, 0.5])
  assert.equal(repairParts(sampler), null, 'not in a loop')
})

const attempt = (number, more = {}) => ({
  ...{ number, prompt: `prompt ${number}`, seed: String(number), image: `h${number}` },
  ...{ verdict: 'failed', ...more }
})
const loop = (start) => ({ start: String(start.id), winner: { number: 1 } })

test('an attempt is written to where Start’s prompt and seed come from', () => {
  const { graph, start, end } = looped()
  page(graph)
  const text = graph.put('PrimitiveStringMultiline')
  const seed = graph.put('Seed (rgthree)', { outputs: ['SEED:INT'], widgets: { seed: -1 } })
  graph.connect(text, 0, start, 'prompt')
  graph.connect(seed, 0, start, 'seed')
  assert.equal(attemptOffer(end, loop(start), attempt(2)).not, '')
  takeAttempt(end, loop(start), attempt(2))
  assert.deepEqual([text.widget('value').value, seed.widget('seed').value], ['prompt 2', 2])
  assert.equal(end.widget('max_attempts').value, 1)
  assert.equal(end.properties.runflow_picked, 'h2')
  assert.equal(start.widget('seed').value, 0, 'a widget that a link covers is left alone')
})

test('what cannot be written is said, and nothing is changed', () => {
  const { graph, start, end } = looped()
  page(graph)
  const random = graph.put('RandomInt', { outputs: ['INT:INT'], widgets: { max: 9 } })
  graph.connect(random, 0, start, 'seed')
  const offer = attemptOffer(end, loop(start), attempt(2))
  assert.notEqual(offer.not, '')
  takeAttempt(end, loop(start), attempt(2))
  assert.equal(start.widget('prompt').value, '')
  assert.equal(end.widget('max_attempts').value, 3)
  assert.match(said[0], /^warn/)
})

test('“not paid again” is promised only where nothing else changes', () => {
  const { graph, start, end, sampler } = looped()
  page(graph)
  const tip = () => attemptOffer(end, loop(start), attempt(2)).tip
  assert.match(tip(), /known/)
  const other = graph.put('KSampler', { values: { control_after_generate: 'randomize' } })
  graph.connect(other, 0, sampler, 'latent_image')
  assert.match(tip(), /anew KSampler/)
})

test('an attempt that was made from more than prompt and seed cannot be taken', () => {
  const { graph, start, end, sampler } = looped()
  page(graph)
  graph.connect(start, 'attempt', sampler, 'latent_image')
  assert.match(attemptOffer(end, loop(start), attempt(2)).not, /depends/)
  assert.equal(attemptOffer(end, loop(start), attempt(1)).not, '')
})

test('a seed beyond what JavaScript holds exactly, and a prompt the editor would change, are refused', () => {
  const { graph, start, end } = looped()
  page(graph)
  const not = (more) => attemptOffer(end, loop(start), attempt(2, more)).not
  assert.match(not({ seed: '18446744073709551615' }), /too large/)
  start.widget('prompt').dynamicPrompts = true
  assert.match(not({ prompt: 'a {b|c}' }), /dynamic/)
})

test('“use it” writes to what makes the image, through Start, and not only into Evaluate', () => {
  const inLoop = looped()
  const { graph, start, evaluate } = inLoop
  graph.connect(start, 'current_prompt', evaluate, 'generation_prompt')
  const { writes, not } = promptWrites(evaluate, 'better', graph)
  assert.equal(not, '')
  assert.deepEqual(
    writes.map(({ node }) => node),
    [start]
  )

  const fromTemplate = template()
  checkQuality(fromTemplate.host, creator(fromTemplate.graph))
  const judge = last(fromTemplate.graph, 'RunflowEvaluateImage')
  const found = promptWrites(judge, 'better', fromTemplate.graph)
  assert.deepEqual(
    found.writes.map(({ node }) => node.type),
    ['PrimitiveStringMultiline']
  )
})

test('“use it” says so where no prompt can be written', () => {
  const { graph, encode, decode } = generated()
  const evaluate = graph.put('RunflowEvaluateImage', { values: { generation_prompt: 'a lake' } })
  graph.connect(decode, 0, evaluate, 'image')
  const joined = graph.put('StringConcatenate', {
    outputs: ['STRING:STRING'],
    widgets: { string_a: 'a', string_b: 'b' }
  })
  graph.connect(joined, 0, encode, 'text')
  assert.notEqual(promptWrites(evaluate, 'better', graph).not, '')
  const loaded = new Graph()
  const alone = loaded.put('RunflowEvaluateImage', { values: { generation_prompt: 'a lake' } })
  loaded.connect(loaded.put('LoadImage'), 0, alone, 'image')
  assert.notEqual(promptWrites(alone, 'better', loaded).not, '')
})

test('a prompt typed on Evaluate and on the encoder is changed in both', () => {
  const { graph, encode, decode } = generated()
  const evaluate = graph.put('RunflowEvaluateImage', { values: { generation_prompt: 'a lake' } })
  graph.connect(decode, 0, evaluate, 'image')
  const { writes } = promptWrites(evaluate, 'better', graph)
  assert.deepEqual(
    writes.map(({ node }) => node),
    [evaluate, encode]
  )
  assert.ok(inputIndex(encode, 'text') >= 0 && !linkInto(encode, inputIndex(encode, 'text')))
})

test('a processor of wildcards is written to only where it keeps what it is given', () => {
  const { graph, encode, decode } = generated()
  const wildcards = graph.put('ImpactWildcardProcessor', {
    outputs: ['processed text:STRING'],
    widgets: { wildcard_text: '__animal__', populated_text: 'a cat', mode: 'populate' }
  })
  graph.connect(wildcards, 0, encode, 'text')
  const { evaluate } = checkQuality(decode, creator(graph))
  assert.notEqual(promptWrites(evaluate, 'better', graph).not, '')
  wildcards.widget('mode').value = 'fixed'
  const { writes, not } = promptWrites(evaluate, 'better', graph)
  assert.deepEqual([not, writes.map(({ widget }) => widget.name)], ['', ['populated_text']])
})

test('the price is that of the prompt which Use Everywhere gives, and of the page’s own where there is none', async () => {
  const priced = []
  const fetchApi = async (_, { body }) => {
    priced.push(JSON.parse(body).prompt)
    return new Response(
      '{"evaluations": 0, "credits": "0", "at_most": false, "problems": [], "notes": []}'
    )
  }
  const toast = { add: ({ severity }) => said.push(severity) }
  const given = { extensionManager: { toast }, graphToPrompt: async () => ({ output: 'as drawn' }) }
  for (const theirs of [async () => ({ output: 'connected' }), async () => undefined, undefined]) {
    open({ ...given, ue_modified_prompt: theirs }, { fetchApi })
    await sayPrice()
  }
  assert.deepEqual(priced, ['connected', 'as drawn', 'as drawn'])
  assert.deepEqual(said, ['info', 'info', 'info'])
})
