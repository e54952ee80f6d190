import assert from 'node:assert/strict'
import { test } from 'vitest'
import { executionId, Survey, sourceOf, targets, upstream } from '../../js/lib/comfy/links.mjs'
import { Graph, generated } from './graph.mjs'

const from = (node, input, hosts = []) => sourceOf({ node, hosts }, input)
const nodeOf = (found) => found.place?.node ?? null

test('reroutes hand on, ComfyUI’s and rgthree’s', () => {
  for (const type of ['Reroute', 'Reroute (rgthree)']) {
    const { graph, decode, save } = generated()
    const reroute = graph.put(type)
    graph.connect(decode, 0, reroute, 0)
    graph.connect(reroute, 0, save, 'images')
    assert.equal(nodeOf(from(save, 'images')), decode)
  }
})

test('Get gives what Set of its name gets, also from outside of a subgraph', () => {
  const { graph, decode, save } = generated()
  const set = graph.put('SetNode', { values: { name: 'image' } })
  const get = graph.put('GetNode', { values: { name: 'image' } })
  graph.connect(decode, 0, set, 0)
  graph.connect(get, 0, save, 'images')
  assert.equal(nodeOf(from(save, 'images')), decode)

  const inner = new Graph()
  const inside = inner.put('GetNode', { values: { name: 'image' } })
  const preview = inner.put('PreviewImage')
  inner.connect(inside, 0, preview, 'images')
  const host = inner.hostIn(graph)
  assert.equal(nodeOf(from(preview, 'images', [host])), decode)
  assert.equal(from(preview, 'images').why, 'unknown')
})

test('a bypassed node hands on its input, a muted one nothing', () => {
  const { graph, decode, save } = generated()
  const scale = graph.put('ImageScale', { inputs: ['image:IMAGE'], outputs: ['IMAGE:IMAGE'] })
  graph.connect(decode, 0, scale, 'image')
  graph.connect(scale, 0, save, 'images')
  assert.equal(nodeOf(from(save, 'images')), scale)
  scale.mode = 4
  assert.equal(nodeOf(from(save, 'images')), decode)
  scale.mode = 2
  assert.deepEqual([nodeOf(from(save, 'images')), from(save, 'images').why], [null, 'muted'])
})

test('subgraphs are followed in and out, and a value that its host shows is the source', () => {
  const inner = new Graph()
  const encode = inner.put('CLIPTextEncode')
  inner.expose(0, encode, 'text')
  inner.giveOut(encode, 0, 0)
  const outer = new Graph()
  const host = inner.hostIn(outer, { outs: ['c:CONDITIONING'], values: { text: 'a hill' } })
  const sampler = outer.put('KSampler')
  outer.connect(host, 0, sampler, 'positive')
  const found = from(sampler, 'positive')
  assert.deepEqual([nodeOf(found), executionId(found.place)], [encode, '1:1'])
  assert.equal(from(encode, 'text', [host]).widget.value, 'a hill')
  assert.equal(from(encode, 'text').why, 'outside')
  const text = outer.put('PrimitiveStringMultiline')
  outer.connect(text, 0, host, 'text')
  assert.equal(nodeOf(from(encode, 'text', [host])), text)
})

test('what another pack wires in its own way is unknown', () => {
  const { graph, save } = generated()
  const strange = graph.put('TheirGetter', { outputs: ['*:*'], virtual: true })
  graph.connect(strange, 0, save, 'images')
  assert.equal(from(save, 'images').why, 'unknown')
})

test('what runs is what active outputs depend on, and a mute cuts the path', () => {
  const { graph, encode, decode, save } = generated()
  const ids = () => [...new Survey(graph).running.keys()]
  assert.ok(ids().includes(String(encode.id)))
  decode.mode = 2
  assert.deepEqual(ids(), [String(save.id)])
  decode.mode = 0
  save.mode = 2
  assert.deepEqual(ids(), [])
})

test('what is in a subgraph runs once for each host that is on', () => {
  const inner = new Graph()
  const preview = inner.put('PreviewImage')
  const load = inner.put('LoadImage')
  inner.connect(load, 0, preview, 'images')
  const outer = new Graph()
  inner.hostIn(outer)
  inner.hostIn(outer)
  inner.hostIn(outer, { mode: 2 })
  const survey = new Survey(outer)
  assert.deepEqual([...survey.running.keys()].sort(), ['1:1', '1:2', '2:1', '2:2'])
})

test('nothing is certain beside a pack that connects things when the prompt is made', () => {
  const certain = (type, more) => {
    const { graph } = generated()
    Object.assign(graph.put(type, more), more?.own)
    return new Survey(graph).certain
  }
  assert.equal(certain('Anything Everywhere'), false)
  assert.equal(certain('LoadImage', { own: { properties: { ue_convert: true } } }), false)
  assert.equal(certain('TheirGetter', { virtual: true }), false)
  assert.equal(certain('Fast Groups Muter (rgthree)', { virtual: true }), true)
  assert.equal(certain('SetNode'), true)
})

test('links are read from the graph where slots do not have them', () => {
  const { graph, decode, save } = generated()
  const links = save.inputs.map((each) => graph.getLink(each.link))
  for (const each of save.inputs) delete each.link
  globalThis.LiteGraph = {
    LGraphNode: {
      prototype: {
        getInputLink(index) {
          return this === save ? links[index] : graph.getLink(this.inputs[index].link)
        }
      }
    },
    isValidConnection: (a, b) => a === b
  }
  try {
    save.getInputLink = () => assert.fail('a host’s own method means something else')
    assert.equal(nodeOf(from(save, 'images')), decode)
    assert.deepEqual(targets(decode, 0), [{ node: save, slot: 0 }])
  } finally {
    delete globalThis.LiteGraph
  }
})

test('a graph of 2,000 nodes in a row is walked to its end', () => {
  const graph = new Graph()
  let last = graph.put('LoadImage')
  for (let n = 0; n < 2000; n++) {
    const next = graph.put('ImageScale', { inputs: ['image:IMAGE'], outputs: ['IMAGE:IMAGE'] })
    graph.connect(last, 0, next, 'image')
    last = next
  }
  assert.equal(upstream(last).length, 2000)
})
