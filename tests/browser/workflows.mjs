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
