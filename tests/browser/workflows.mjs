/** Workflows as files hold them. Each has an id of its own, so that what one showed is not another's. */

import { randomUUID } from 'node:crypto'

/** A text that no other run has judged. */
export const unique = (text) => `${text} ${randomUUID().slice(0, 8)}`

const slot = (name, type, link = null) => ({ name, type, link })
const out = (name, type, links = []) => ({ name, type, links })

function workflow(nodes, links) {
  return {
    id: randomUUID(), revision: 0, last_node_id: nodes.length, last_link_id: links.length,
    nodes: nodes.map((node, order) => ({ flags: {}, order, mode: 0, inputs: [], outputs: [], properties: {}, ...node })),
    links, groups: [], config: {}, extra: {}, version: 0.4
  }
}

const EVALUATE = ['passed:BOOLEAN', 'score:FLOAT', 'issues:STRING', 'improved_prompt:STRING'].map((each) => out(...each.split(':'), null))

/** Load Image → Evaluate → Show Verdict. */
export function judged(prompt, { judge = 'auto', shows = true, image = 'example.png' } = {}) {
  const nodes = [
    { id: 1, type: 'LoadImage', pos: [0, 0], size: [280, 320], outputs: [out('IMAGE', 'IMAGE', [1]), out('MASK', 'MASK', null)], widgets_values: [image, 'image'] },
    { id: 2, type: 'RunflowEvaluateImage', pos: [340, 0], size: [360, 530], inputs: [slot('image', 'IMAGE', 1)], outputs: [...EVALUATE, out('evaluation', 'RUNFLOW_EVALUATION', shows ? [2] : null)], widgets_values: [prompt, '', judge, 0, 'stop', 'image_generation', ''] },
    { id: 3, type: 'RunflowShowVerdict', pos: [760, 0], size: [360, 130], inputs: [slot('evaluation', 'RUNFLOW_EVALUATION', 2)] }
  ]
  const links = [[1, 1, 0, 2, 0, 'IMAGE'], [2, 2, 4, 3, 0, 'RUNFLOW_EVALUATION']]
  return shows ? workflow(nodes, links) : workflow(nodes.slice(0, 2), links.slice(0, 1))
}

/** The same with Save Judged Images, which writes the image to the output folder, with the workflow in it. */
export function saving(prompt) {
  const made = judged(prompt)
  made.nodes.push({ id: 4, type: 'RunflowSaveJudged', pos: [1180, 0], size: [300, 300], flags: {}, order: 3, mode: 0, properties: {}, inputs: [slot('image', 'IMAGE', 3), slot('evaluation', 'RUNFLOW_EVALUATION', 4)], outputs: [], widgets_values: ['dropped', 'together', 'all', false] })
  made.links.push([3, 1, 0, 4, 0, 'IMAGE'], [4, 2, 4, 4, 1, 'RUNFLOW_EVALUATION'])
  made.nodes[0].outputs[0].links.push(3)
  made.nodes[1].outputs.at(-1).links.push(4)
  return { ...made, last_node_id: 4, last_link_id: 4 }
}

/** Encode → sample → decode → save, without a judge; node 5 evaluates where asked. */
export function generated(prompt, { seed = 7, batch = 1, evaluate = false } = {}) {
  const nodes = [
    { id: 1, type: 'StandInEncode', pos: [0, 0], size: [280, 120], outputs: [out('CONDITIONING', 'CONDITIONING', [1])], widgets_values: [prompt] },
    { id: 2, type: 'StandInSampler', pos: [340, 0], size: [240, 110], inputs: [slot('positive', 'CONDITIONING', 1)], outputs: [out('LATENT', 'LATENT', [2])], widgets_values: [seed, 'fixed'] },
    { id: 3, type: 'StandInDecode', pos: [640, 0], size: [220, 90], inputs: [slot('samples', 'LATENT', 2)], outputs: [out('IMAGE', 'IMAGE', evaluate ? [3, 4] : [3])], widgets_values: [batch] },
    { id: 4, type: 'PreviewImage', pos: [920, 0], size: [260, 260], inputs: [slot('images', 'IMAGE', 3)] },
    { id: 5, type: 'RunflowEvaluateImage', pos: [300, 220], size: [360, 530], inputs: [slot('image', 'IMAGE', 4)], outputs: [...EVALUATE, out('evaluation', 'RUNFLOW_EVALUATION', [5])], widgets_values: [prompt, '', 'auto', 0, 'stop', 'image_generation', ''] },
    { id: 6, type: 'RunflowShowVerdict', pos: [720, 320], size: [360, 180], inputs: [slot('evaluation', 'RUNFLOW_EVALUATION', 5)] }
  ]
  const links = [[1, 1, 0, 2, 0, 'CONDITIONING'], [2, 2, 0, 3, 0, 'LATENT'], [3, 3, 0, 4, 0, 'IMAGE'], [4, 3, 0, 5, 0, 'IMAGE'], [5, 5, 4, 6, 0, 'RUNFLOW_EVALUATION']]
  return evaluate ? workflow(nodes, links) : workflow(nodes.slice(0, 4), links.slice(0, 3))
}

/** The tutorial's loop from an empty graph: two photographs stand in for what a sampler makes of seed 0 and of seed 1. */
export function byHand() {
  const photo = (id, pos, image, link) => ({ id, type: 'LoadImage', pos, size: [230, 290], outputs: [out('IMAGE', 'IMAGE', [link]), out('MASK', 'MASK', null)], widgets_values: [image, 'image'] })
  const start = ['loop:RUNFLOW_LOOP:4', 'current_prompt:STRING', 'current_seed:INT:5', 'attempt:INT', 'previous_issues:STRING', 'original_prompt:STRING']
  const end = ['best_image:IMAGE:9', 'passed:BOOLEAN', 'score:FLOAT', 'issues:STRING', 'final_prompt:STRING', 'final_seed:INT', 'attempts:INT', 'best_evaluation:RUNFLOW_EVALUATION', 'attempt_images:IMAGE']
  const outs = (each) => each.map((one) => one.split(':')).map(([name, type, link]) => out(name, type, link ? [Number(link)] : null))
  return workflow([
    photo(1, [0, 0], 'coffee_blurred.jpg', 1),
    photo(2, [0, 340], 'coffee.jpg', 2),
    { id: 3, type: 'ImageBatch', pos: [280, 340], size: [200, 60], inputs: [slot('image1', 'IMAGE', 1), slot('image2', 'IMAGE', 2)], outputs: [out('IMAGE', 'IMAGE', [3])] },
    { id: 4, type: 'RunflowRegenerateStart', pos: [280, 0], size: [300, 280], outputs: outs(start), widgets_values: ['a cup of coffee on a wooden table', 0, 'fixed'] },
    { id: 5, type: 'ImageFromBatch', pos: [640, 0], size: [240, 90], inputs: [slot('image', 'IMAGE', 3), { ...slot('batch_index', 'INT', 5), widget: { name: 'batch_index' } }], outputs: [out('IMAGE', 'IMAGE', [6, 7])], widgets_values: [0, 1] },
    { id: 6, type: 'RunflowEvaluateImage', pos: [640, 150], size: [340, 530], inputs: [slot('image', 'IMAGE', 6)], outputs: [...EVALUATE, out('evaluation', 'RUNFLOW_EVALUATION', [8])], widgets_values: ['', '', 'local', 0, 'stop', 'image_generation', ''] },
    { id: 7, type: 'RunflowRegenerateEnd', pos: [1040, 0], size: [320, 680], inputs: [slot('loop', 'RUNFLOW_LOOP', 4), slot('image', 'IMAGE', 7), slot('evaluation', 'RUNFLOW_EVALUATION', 8)], outputs: outs(end), widgets_values: [3, 'improved', 'increment', true, false] },
    { id: 8, type: 'SaveImage', pos: [1420, 0], size: [240, 260], inputs: [slot('images', 'IMAGE', 9)], widgets_values: ['ComfyUI'] }
  ], [
    [1, 1, 0, 3, 0, 'IMAGE'], [2, 2, 0, 3, 1, 'IMAGE'], [3, 3, 0, 5, 0, 'IMAGE'], [4, 4, 0, 7, 0, 'RUNFLOW_LOOP'], [5, 4, 2, 5, 1, 'INT'],
    [6, 5, 0, 6, 0, 'IMAGE'], [7, 5, 0, 7, 1, 'IMAGE'], [8, 6, 4, 7, 2, 'RUNFLOW_EVALUATION'], [9, 7, 0, 8, 0, 'IMAGE']
  ])
}

/**
 * As ComfyUI's own templates are: all that makes the image is in a subgraph, whose host shows the prompt as an input
 * called `text`, and the seed of a node inside as a widget.
 */
export function template(prompt, { seed = 7 } = {}) {
  const id = randomUUID()
  const widget = (name, type, link) => ({ ...slot(name, type, link), widget: { name } })
  const inside = [
    { id: 1, type: 'StandInEncode', pos: [0, 0], size: [280, 120], inputs: [widget('text', 'STRING', 4)], outputs: [out('CONDITIONING', 'CONDITIONING', [1])], widgets_values: [prompt] },
    { id: 3, type: 'StandInSampler', pos: [340, 0], size: [240, 110], inputs: [slot('positive', 'CONDITIONING', 1), widget('seed', 'INT', null)], outputs: [out('LATENT', 'LATENT', [2])], widgets_values: [seed, 'randomize'] },
    { id: 8, type: 'StandInDecode', pos: [640, 0], size: [220, 90], inputs: [slot('samples', 'LATENT', 2)], outputs: [out('IMAGE', 'IMAGE', [3])], widgets_values: [1] }
  ].map((node, order) => ({ flags: {}, order, mode: 0, properties: {}, inputs: [], outputs: [], ...node }))
  const link = (number, from, to, type) => ({ id: number, origin_id: from[0], origin_slot: from[1], target_id: to[0], target_slot: to[1], type })
  const subgraph = {
    id, version: 1, revision: 0, name: 'Text to Image', config: {}, groups: [], widgets: [], extra: {},
    state: { lastGroupId: 0, lastNodeId: 8, lastLinkId: 4, lastRerouteId: 0 },
    inputNode: { id: -10, bounding: [-200, 0, 120, 60] }, outputNode: { id: -20, bounding: [920, 0, 120, 60] },
    inputs: [{ id: randomUUID(), name: 'text', type: 'STRING', linkIds: [4], label: 'prompt', pos: [-100, 20] }],
    outputs: [{ id: randomUUID(), name: 'IMAGE', type: 'IMAGE', linkIds: [3], pos: [940, 20] }],
    nodes: inside,
    links: [
      link(1, [1, 0], [3, 0], 'CONDITIONING'), link(2, [3, 0], [8, 0], 'LATENT'), link(3, [8, 0], [-20, 0], 'IMAGE'),
      link(4, [-10, 0], [1, 0], 'STRING')
    ]
  }
  const host = {
    id: 57, type: id, pos: [0, 0], size: [400, 300], inputs: [{ ...widget('text', 'STRING', null), label: 'prompt' }], outputs: [out('IMAGE', 'IMAGE', [1])],
    properties: { proxyWidgets: [['-1', 'text'], ['3', 'seed'], ['3', 'control_after_generate']] }, widgets_values: [prompt, null, null]
  }
  const preview = { id: 9, type: 'PreviewImage', pos: [480, 0], size: [260, 260], inputs: [slot('images', 'IMAGE', 1)] }
  const made = workflow([host, preview], [[1, 57, 0, 9, 0, 'IMAGE']])
  return { ...made, last_node_id: 57, definitions: { subgraphs: [subgraph] } }
}
