import assert from 'node:assert/strict'
import { test } from 'vitest'
import { chart } from '../../js/lib/chart.mjs'
import { ago, score, seconds, sum } from '../../js/lib/format.mjs'
import { downstream, nodeOf, source, upstream, whyIdle } from '../../js/lib/graph.mjs'
import { checkQuality, imageOf, loopParts, regenerate } from '../../js/lib/insert.mjs'
import { changes, cleanLoop } from '../../js/lib/loop.mjs'
import { Memory } from '../../js/lib/memory.mjs'
import { promptTargets } from '../../js/lib/prompts.mjs'
import { speak, t } from '../../js/lib/text.mjs'
import { clean, summary } from '../../js/lib/verdicts.mjs'
import { Graph } from './graph_stand_in.mjs'

const verdict = (outcome, score, more = {}) => ({ verdict: outcome, passed: outcome === 'passed', score, cost: '0.10', judge: 'runflow', ...more })

test('credits are added exactly', () => {
  assert.equal(sum(Array(3).fill('0.10')), '0.30')
  assert.equal(sum(Array(20).fill('1')), '20')
  assert.equal(sum(['free', 'free']), '')
  assert.equal(sum(['0.1', '0.2', '', null, 'x']), '0.3')
  assert.equal(sum([]), '')
})

test('numbers read as people write them', () => {
  assert.equal(score(0.9), '0.90')
  assert.equal(score(null), '–')
  assert.equal(seconds(3.14), '3.1\u00a0s')
  assert.equal(seconds(31.4), '31\u00a0s')
})

test('a batch is unknown if any is, else failed if any is, and its score is the lowest', () => {
  assert.equal(summary(clean([verdict('passed', 0.9), verdict('failed', 0.4)])).outcome, 'failed')
  const mixed = summary(clean([verdict('passed', 0.9), verdict('failed', 0.4), verdict('unknown', 0)]))
  assert.deepEqual([mixed.outcome, mixed.score, mixed.cost], ['unknown', 0.4, '0.30'])
  assert.equal(summary(clean([verdict('passed', 0.9), verdict('failed', 0.4)])).worst, 1)
})

test('what is no verdict is cleaned into one, whatever was sent', () => {
  const [only] = clean([{ verdict: 'great', score: 'x', issues: 'no list', cost: 1 }, null, 3])
  assert.deepEqual([only.verdict, only.score, only.issues, only.cost], ['unknown', null, [], ''])
  assert.deepEqual(clean('nonsense'), [])
})

test('texts and times are in the person\'s language, where there is one, else in English', () => {
  const answer = { en: { runflow: { a: { b: 'x {n}' } } }, de: { runflow: { a: { b: 'z {n}' } } }, fr: { theirs: {} } }
  speak(answer, 'de')
  assert.equal(t('a.b', { n: 3 }), 'z 3')
  assert.equal(t('a.b', { n: 0 }), 'z 0')
  assert.match(ago(0, 7200_000), /vor 2 Std/)
  for (const missing of ['fr', 'pt-BR', undefined]) {
    speak(answer, missing)
    assert.equal(t('a.b'), 'x {n}')
    assert.match(ago(0, 7200_000), /2 hr?\.? ago/)
  }
  assert.equal(t('a.d'), 'a.d')
})

test('only what has a verdict counts as judged, in the words and in the bars', () => {
  const made = []
  globalThis.document = { createElement: (tag) => ({ tag, setAttribute(name, value) { this[name] = value }, append(...all) { this.children = all; made.push(this) } }) }
  speak({ en: { runflow: { history: { chart: '{judged} judged, {rate} %', today: '', day: '' } } } }, 'en')
  const day = { date: '2026-01-01', evaluations: 10_051, judged: 4, passed: 3, credits: '1' }
  chart({ days: [day], today: { evaluations: 0, credits: '0' }, limits: { evaluations: 9, credits: null } })
  delete globalThis.document
  assert.equal(made.find((each) => each.className === 'rf-bars')['aria-label'], '4 judged, 75 %')
  assert.equal(made.find((each) => each.className === 'rf-bar-passed').style, 'height:75%')
})

test('a prompt’s changes are shown word by word', () => {
  assert.deepEqual(changes('a lake at dawn', 'a calm lake at dusk'), [['same', 'a'], ['ins', ' calm'], ['same', ' lake at'], ['del', ' dawn'], ['ins', ' dusk']])
  assert.deepEqual(changes('', 'new'), [['ins', 'new']])
  assert.deepEqual(changes('f1501e47 lake', 'pp1 lake'), [['del', 'f1501e47'], ['ins', ' pp1'], ['same', ' lake']], 'words stay apart')
  assert.deepEqual(changes('a lake', 'lake'), [['del', 'a'], ['same', ' lake']])
})

test('a loop says what all attempts cost, has each image of a batch, and claims no judge where none was asked', () => {
  const member = (id, verdict) => ({ id, image: `h${id}`, verdict, score: 0.5, judge: 'runflow', cost: '0.10' })
  const attempt = { verdict: 'failed', score: 0.5, images: ['h1', 'h2'], evaluation_ids: ['1', '2'], issues: ['image 2: grey'], cost: '0.20', members: [member('1', 'passed'), member('2', 'failed')] }
  const loop = cleanLoop({ attempts: [attempt, { ...attempt, cost: '' }, { ...attempt, cost: '0.1' }], winner: 2 })
  assert.equal(loop.cost, '0.30')
  assert.deepEqual(loop.attempts.map(({ cost }) => cost), ['0.20', '', '0.1'])
  assert.deepEqual(loop.items.map(({ id, number, image, cost }) => [id, number, image, cost].join(' ')), [1, 2, 3].flatMap((n) => [`1 ${n} h1 0.10`, `2 ${n} h2 0.10`]))
  assert.deepEqual(loop.winner.items.map(({ verdict, issues }) => [verdict, ...issues]), [['passed', 'image 2: grey'], ['failed', 'image 2: grey']])
  const { members, cost, ...older } = attempt
  assert.deepEqual(cleanLoop({ attempts: [older] }).items.map(({ id }) => id), ['1'])
  assert.equal(cleanLoop({ attempts: [older] }).cost, '')
  assert.deepEqual([older, { ...older, evaluation_ids: [] }, { verdict: 'unknown', images: ['h1'] }].map((each) => cleanLoop({ attempts: [each] }).winner.judge), ['runflow', '', ''])
  assert.deepEqual([summary([]).outcome, summary([]).judge], ['unknown', undefined])
})

test('a loop that nobody could have sent shows nothing', () => {
  for (const nonsense of [null, {}, { attempts: 'x' }, { attempts: [] }]) assert.equal(cleanLoop(nonsense), null)
  assert.equal(cleanLoop({ attempts: [null, { score: 0.5, verdict: 'passed' }], winner: 2 }).winner.score, 0.5)
})

class Storage {
  constructor(room = Infinity) { Object.assign(this, { room, held: {} }) }
  getItem(name) { return this.held[name] ?? null }
  setItem(name, text) {
    if (text.length > this.room) throw new Error('QuotaExceededError')
    this.held[name] = text
  }
  removeItem(name) { delete this.held[name] }
}

test('what a node showed is remembered over a reload, and marked as earlier', () => {
  const storage = new Storage()
  const now = Date.now()
  new Memory(storage, () => now).remember('w a.json', '1', 'x', { verdicts: [{ id: 'e1' }] })
  const later = new Memory(storage)
  assert.deepEqual(later.last('w a.json'), { 1: 'x' })
  assert.deepEqual(later.recall('1', 'x'), { shown: { verdicts: [{ id: 'e1' }] }, earlier: now })
  assert.equal(later.recall('2', 'x'), undefined)
})

test('a verdict belongs to what its node depended on, and the last one to the tab that ran', () => {
  const memory = new Memory(new Storage())
  memory.remember('w a.json', '5', 'seed 1', { verdicts: ['failed'] })
  memory.remember('w b.json', '5', 'seed 2', { verdicts: ['passed'] })
  assert.deepEqual(memory.recall('5', 'seed 1').shown.verdicts, ['failed'])
  assert.deepEqual([memory.last('w a.json'), memory.last('w b.json')], [{ 5: 'seed 1' }, { 5: 'seed 2' }])
  memory.ran('w b.json', { 5: 'seed 1', 6: 'new' })
  assert.deepEqual(memory.last('w b.json'), { 5: 'seed 1', 6: 'new' })
  assert.deepEqual(memory.last('w'), memory.last('w b.json'), 'the latest of the workflow')
  assert.equal(memory.last('w c.json'), undefined)
  memory.ran('w', { 6: 'newer' })
  assert.equal(memory.last('w b.json')[6], 'newer', 'a run of a tab that is not open goes to the latest')
})

test('memory is bounded, and a damaged storage stops nothing', () => {
  const storage = new Storage()
  const memory = new Memory(storage)
  const keep = (n, text = '') => memory.remember(`w ${n}`, '1', `i${n}`, { text })
  for (let n = 0; n < 60; n++) keep(`${n}.json`, 'x'.repeat(30_000))
  const [written] = Object.values(storage.held)
  assert.ok(written.length < 600_000, written.length)
  assert.ok(memory.recall('1', 'i59.json') && !memory.recall('1', 'i0.json'))
  assert.equal(Object.keys(JSON.parse(written).tabs).length, 50)
  for (const damaged of ['{broken', 'null', '{"shown":{"a":null}}', '{"w:1":{"shown":{}}}']) {
    storage.held['RunflowEvaluate.Shown'] = damaged
    assert.equal(memory.recall('1', 'i59'), undefined)
    keep('again')
    assert.ok(memory.recall('1', 'iagain'))
  }
})

test('a full storage costs the memory of older verdicts, and time all of them', () => {
  const memory = new Memory(new Storage(2000), () => now)
  let now = 1e12
  for (let n = 0; n < 20; n++) memory.remember('w', '1', `i${n}`, { text: 'x'.repeat(300) })
  assert.ok(memory.recall('1', 'i19') && memory.recall('1', 'i18') && !memory.recall('1', 'i0'))
  now += 31 * 86_400_000
  memory.remember('w', '1', 'new', {})
  assert.ok(memory.recall('1', 'new') && !memory.recall('1', 'i19'), 'prompts are not kept for ever')
  new Memory(new Storage(10)).remember('w', '1', 'i', {})
})

function image() {
  const graph = new Graph()
  const encode = graph.put('CLIPTextEncode', [], ['CONDITIONING:CONDITIONING'], { text: 'a lake' })
  const negative = graph.put('CLIPTextEncode', [], ['CONDITIONING:CONDITIONING'], { text: 'ugly' })
  const sampler = graph.put('KSampler', ['positive:CONDITIONING', 'negative:CONDITIONING'], ['LATENT:LATENT'], { seed: 7 })
  const decode = graph.put('VAEDecode', ['samples:LATENT'], ['IMAGE:IMAGE'])
  const save = graph.put('SaveImage', ['images:IMAGE'], [], {}, true)
  encode.connect(0, sampler, 0)
  negative.connect(0, sampler, 1)
  sampler.connect(0, decode, 0)
  decode.connect(0, save, 0)
  return { graph, encode, sampler, decode, save }
}

test('graphs are walked both ways, through reroutes', () => {
  const { graph, sampler, decode, save } = image()
  assert.deepEqual(downstream(sampler), [decode, save])
  assert.ok(upstream(save).includes(sampler))
  const reroute = graph.put('Reroute', [':*'], [':*'])
  decode.connect(0, reroute, 0)
  reroute.connect(0, save, 0)
  assert.equal(source(save, 'images').node, decode)
  assert.equal(nodeOf(graph, String(save.id)), save)
  assert.equal(nodeOf(graph, '99:1'), null)
})

test('a node says why it would not run', () => {
  const { graph, decode } = image()
  const evaluate = graph.create('RunflowEvaluateImage')
  assert.equal(whyIdle(evaluate), 'no_image')
  decode.connect(0, evaluate, 0)
  assert.equal(whyIdle(evaluate), 'no_output')
  const show = graph.create('RunflowShowVerdict')
  evaluate.connect(4, show, 0)
  assert.equal(whyIdle(evaluate), null)
  show.mode = 2
  assert.equal(whyIdle(evaluate), 'no_output')
  evaluate.mode = 4
  assert.equal(whyIdle(evaluate), 'bypassed')
})

test('“check quality” wires a judge and what shows it, with the prompt that made the image', () => {
  const { graph, decode } = image()
  const evaluate = checkQuality(decode, (type) => graph.create(type))
  assert.equal(source(evaluate, 'image').node, decode)
  assert.equal(evaluate.widget('generation_prompt').value, 'a lake')
  assert.equal(downstream(evaluate)[0].type, 'RunflowShowVerdict')
})

test('“regenerate until it passes” moves prompt and seed, and what read the image reads the best one', () => {
  const { graph, encode, sampler, decode, save } = image()
  for (const from of [sampler, decode]) assert.equal(loopParts(from).sampler, sampler)
  assert.equal(loopParts(encode), null)
  const end = regenerate(loopParts(sampler), (type) => graph.create(type))
  const start = source(end, 'loop').node
  assert.deepEqual([start.widget('prompt').value, start.widget('seed').value, start.widget('control_after_generate').value], ['a lake', 7, 'fixed'])
  assert.equal(source(encode, 'text').node, start)
  assert.equal(source(sampler, 'seed').node, start)
  assert.equal(source(save, 'images').node, end)
  assert.equal(source(end, 'image').node, decode)
  assert.equal(source(source(end, 'evaluation').node, 'generation_prompt').node, start)
  assert.equal(loopParts(sampler), null, 'a loop is not put into a loop')
})

test('what saves images is no source of them, even where it has an output', () => {
  const { graph, sampler, decode, save } = image()
  const saves = graph.put('SaveImage', ['images:IMAGE'], ['IMAGE:IMAGE'], {}, true)
  decode.connect(0, saves, 0)
  assert.deepEqual([saves, decode, sampler].map(imageOf), [decode, decode, decode])
  assert.equal(imageOf(save), null)
  const end = regenerate(loopParts(saves), (type) => graph.create(type))
  assert.equal(source(end, 'image').node, decode)
  for (const each of [save, saves]) assert.equal(source(each, 'images').node, end)
})

test('a loop goes between a widget and what is linked to it', () => {
  const { graph, encode, sampler } = image()
  const text = graph.put('PrimitiveNode', [], ['STRING:STRING'])
  text.widgets = [{ name: 'value', value: 'a hill', type: 'customtext' }] // as the frontend's, whose widget has no input
  text.connect(0, encode, 'text')
  const count = graph.put('PrimitiveInt', [], ['INT:INT'])
  count.connect(0, sampler, 'seed')
  const end = regenerate(loopParts(sampler), (type) => graph.create(type))
  const start = source(end, 'loop').node
  assert.deepEqual([start.widget('prompt').value, source(encode, 'text').node], ['a hill', start])
  assert.deepEqual([source(start, 'seed').node, source(sampler, 'seed').node], [count, start])
})

test('in a subgraph the best image goes out where the image did, and what came in goes to Start', () => {
  const { graph, sampler, decode } = image()
  const given = []
  graph.inputs = [{ connect: (slot, node) => given.push(['in', node.type, slot.name]) }]
  graph.outputs = [{ connect: (slot, node) => given.push(['out', node.type, slot.name]) }]
  graph.links.set(90, { id: 90, origin_id: -10, origin_slot: 0, target_id: sampler.id, target_slot: 2 })
  sampler.inputs[2].link = 90
  graph.links.set(91, { id: 91, origin_id: decode.id, origin_slot: 0, target_id: -20, target_slot: 0 })
  decode.outputs[0].links.push(91)
  regenerate(loopParts(sampler), (type) => graph.create(type))
  assert.deepEqual(given, [['in', 'RunflowRegenerateStart', 'seed'], ['out', 'RunflowRegenerateEnd', 'best_image']])
})

test('an improved prompt goes where the image’s prompt comes from', () => {
  const { graph, encode, decode } = image()
  const evaluate = checkQuality(decode, (type) => graph.create(type))
  assert.deepEqual(promptTargets(evaluate).map(({ node }) => node), [encode, evaluate])
  const text = graph.put('PrimitiveString', [], ['STRING:STRING'], { value: 'from here' })
  text.connect(0, evaluate, evaluate.inputs.findIndex(({ name }) => name === 'generation_prompt'))
  assert.deepEqual(promptTargets(evaluate).map(({ node }) => node), [text])
})
