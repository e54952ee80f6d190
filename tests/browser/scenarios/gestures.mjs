/** The gestures on what people have: official templates, Set and Get, nodes of other packs. */
import { expect } from '../editor.mjs'
import { template, unique } from '../workflows.mjs'

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
