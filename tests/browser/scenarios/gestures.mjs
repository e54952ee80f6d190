/** The gestures on what people have: official templates, Set and Get, nodes of other packs. */
import { expect } from '../editor.mjs'
import { generated, template, unique } from '../workflows.mjs'

/** What ComfyUI gets, by the class of each node. */
const posted = (editor) =>
  editor.in(async () => {
    const { output } = await window.app.graphToPrompt()
    const found = {}
    for (const [id, { class_type, inputs }] of Object.entries(output)) found[class_type] = { id, inputs }
    return found
  })

async function run(editor, id, command) {
  await editor.in((node) => window.app.canvas.selectNode(window.app.graph.getNodeById(node)), id)
  await editor.command(command)
  await editor.frames()
}

/** *Check quality* on a template: judged against the prompt that makes the image, also after it is changed. */
export async function checks_a_template(editor) {
  const prompt = unique('a pier')
  await editor.load(template(prompt))
  await run(editor, 57, 'RunflowEvaluate.CheckQuality')
  const { RunflowEvaluateImage: judge, StandInEncode: encode, PrimitiveStringMultiline: text } = await posted(editor)
  expect(text.inputs.value === prompt, 'the prompt is in a node of its own', text)
  expect(judge.inputs.generation_prompt[0] === text.id, 'it is judged', judge)
  expect(encode.inputs.text[0] === text.id, 'and it makes the image', encode)
  await editor.undo()
  const before = await editor.in(() => window.app.graph.nodes.length)
  expect(before === 2, 'one undo takes all of it back', before)
  const again = await posted(editor)
  expect(again.StandInEncode.inputs.text === prompt, 'the prompt is where it was', again)
}

/** *Regenerate* on a template: prompt and seed of every attempt reach what is inside. */
export async function regenerates_a_template(editor) {
  const prompt = unique('a pier')
  await editor.load(template(prompt, { seed: 41 }))
  await run(editor, 57, 'RunflowEvaluate.Regenerate')
  const { RunflowRegenerateStart: start, StandInEncode: encode, StandInSampler: sampler, RunflowRegenerateEnd: end } = await posted(editor)
  expect(start.inputs.prompt === prompt && start.inputs.seed === 41, 'Start has both', start)
  expect(encode.inputs.text[0] === start.id, 'the prompt reaches the encoder', encode)
  expect(sampler.inputs.seed[0] === start.id, 'the seed reaches the sampler', sampler)
  await editor.undo()
  const again = await posted(editor)
  expect(again.StandInEncode.inputs.text === prompt, 'one undo: the prompt is where it was', again)
  expect(again.RunflowRegenerateStart === undefined, 'and the loop is gone', again)
  await run(editor, 57, 'RunflowEvaluate.Regenerate')
  const ended = await editor.runToTheEnd()
  expect(ended === 'execution_success', 'it runs', ended)
  return end.id
}

const spent = (editor) =>
  editor.in(async () => {
    const answer = await window.comfyAPI.api.api.fetchApi('/runflow-evaluate/days?days=1')
    return Number((await answer.json()).today.evaluations)
  })

/** A loop whose prompt and seed come from nodes of their own. */
async function fedLoop(editor) {
  await editor.load(generated(unique('a lake'), { seed: Math.floor(Math.random() * 1e9) }))
  await run(editor, 2, 'RunflowEvaluate.Regenerate')
  await editor.in((text) => {
    const { app, LiteGraph } = window
    const [start] = app.graph.nodes.filter(({ type }) => type === 'RunflowRegenerateStart')
    for (const [type, input, value] of [['PrimitiveStringMultiline', 'prompt', text], ['PrimitiveInt', 'seed', 77]]) {
      const node = LiteGraph.createNode(type)
      node.pos = [-800, app.graph.nodes.length * 200]
      app.graph.add(node)
      node.widgets[0].value = value
      node.connect(0, start, input)
    }
  }, unique('a hill'))
  await editor.frames()
}

/** Call one of the pack's modules as its panel does. */
const taking = (editor, number, take) =>
  editor.in(async ([wanted, does]) => {
    const base = new URL('lib/', document.querySelector('link[href$="runflow.css"]').href).href
    const { attemptOffer, takeAttempt } = await import(`${base}gestures/take_attempt.mjs`)
    const { app, comfyAPI } = window
    const [end] = app.graph.nodes.filter(({ type }) => type === 'RunflowRegenerateEnd')
    const answer = await comfyAPI.api.api.fetchApi(`/runflow-evaluate/panels?workflow=${app.graph.id}`)
    const { panels } = await answer.json()
    const { loop } = panels.find(({ node, loop }) => String(node) === String(end.id) && loop)
    const own = loop.attempts[wanted - 1]
    const attempt = { number: wanted, prompt: own.prompt, seed: own.seed_digits, image: own.images[0], verdict: own.verdict }
    const of = { start: loop.start, winner: { number: loop.winner } }
    if (does) takeAttempt(end, of, attempt)
    return { offer: attemptOffer(end, of, attempt), attempt }
  }, [number, take])

/** What is promised is what is billed: the values go to where they come from, and nothing is judged anew. */
export async function takes_an_attempt_where_its_values_come_from(editor) {
  await fedLoop(editor)
  await editor.runToTheEnd()
  const before = await spent(editor)
  const { offer, attempt } = await taking(editor, 2, true)
  expect(offer.not === '', 'it can be done', offer)
  const { PrimitiveStringMultiline: text, PrimitiveInt: seed, RunflowRegenerateEnd: end } = await posted(editor)
  expect(text.inputs.value === attempt.prompt, 'the prompt is where it comes from', text)
  expect(String(seed.inputs.value) === attempt.seed, 'and the seed', seed)
  expect(end.inputs.max_attempts === 1, 'it is the only attempt', end)
  const ended = await editor.runToTheEnd()
  expect(ended === 'execution_success', 'it runs', ended)
  expect((await spent(editor)) === before, 'nothing is paid', (await spent(editor)) - before)
}

/** What the nodes hold: their sizes change by themselves. */
const values = (editor) =>
  editor.in(() => {
    const { nodes } = window.app.graph.serialize()
    return JSON.stringify(nodes.map((node) => [node.id, node.widgets_values, node.properties.runflow_picked]))
  })

/** Where another node decides, nothing is written and nothing is promised. */
export async function says_that_it_cannot_take_an_attempt(editor) {
  await fedLoop(editor)
  await editor.runToTheEnd()
  await editor.in(() => {
    const { app, LiteGraph } = window
    const [start] = app.graph.nodes.filter(({ type }) => type === 'RunflowRegenerateStart')
    const joins = LiteGraph.createNode('StringConcatenate')
    app.graph.add(joins)
    joins.connect(0, start, 'prompt')
  })
  const before = await values(editor)
  const { offer } = await taking(editor, 2, false)
  expect(/decides that value/.test(offer.not), 'it says why', offer)
  await taking(editor, 2, true)
  expect((await values(editor)) === before, 'nothing is changed')
}

/** *Repair* on ComfyUI's own first workflow: one sampler makes the first image and changes the best one later. */
export async function repairs_around_a_sampler(editor) {
  await editor.command('Comfy.LoadDefaultWorkflow')
  const found = await editor.page.waitForFunction(() => window.app.graph.nodes.find(({ type }) => type === 'KSampler')?.id)
  const sampler = Number(await found.jsonValue()) // which workflow it is depends on the frontend
  const before = await editor.in(() => window.app.graph.nodes.length)
  await run(editor, sampler, 'RunflowEvaluate.Repair')
  const nodes = await editor.in(async () => (await window.app.graphToPrompt()).output)
  const from = (node, input) => ({ node: nodes[node.inputs[input][0]], slot: node.inputs[input][1] })
  const { latent_image, denoise } = nodes[sampler].inputs
  const [latent, strength] = [nodes[latent_image[0]], nodes[denoise[0]]]
  for (const each of [latent, strength]) {
    expect(each.class_type === 'RunflowRepairSwitch' && from(each, 'attempt').slot === 3, 'a switch that counts', each)
  }
  const encode = from(latent, 'repair').node
  expect(/^Empty\w*LatentImage$/.test(from(latent, 'generate').node.class_type), 'attempt 1 begins with noise', latent)
  expect(encode.class_type === 'VAEEncode' && from(encode, 'pixels').slot === 6, 'later ones with the best image', encode)
  const decode = Object.values(nodes).find((each) => each.class_type === 'VAEDecode')
  expect(String(encode.inputs.vae) === String(decode.inputs.vae), 'by the same VAE', encode)
  const values = ['generate', 'repair'].map((side) => from(strength, side).node.inputs.value)
  expect(values[0] === 1 && values[1] === 0.5, 'with less denoise', values)
  const kinds = Object.values(nodes).map((each) => each.class_type)
  expect(kinds.includes('RunflowRegenerateEnd') && kinds.includes('RunflowEvaluateImage'), 'in a loop', kinds)
  await editor.undo()
  const after = await editor.in(() => window.app.graph.nodes.length)
  expect(after === before, 'one undo takes all of it back', after)
}
