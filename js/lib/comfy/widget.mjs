/** The panel as a DOM widget of a node, in both renderers. */
import { keepInside } from '../dom.mjs'
import { t } from '../text.mjs'

/** @typedef {import('../types').GraphNode} GraphNode */

/** @type {Record<string, 'line' | 'whole'>} which nodes have a panel; Evaluate says one line */
const SIZES = {
  RunflowEvaluateImage: 'line',
  RunflowGetEvaluation: 'whole',
  RunflowShowVerdict: 'whole',
  RunflowRegenerateEnd: 'whole'
}
/** In px, with the frame; constant, so that nothing jumps. */
const HEIGHTS = { line: 40, whole: 152 }
const WIDTH = 320
const MARGIN = 6
let count = 0

/** @param {GraphNode} node @returns {'line' | 'whole' | undefined} undefined where it has no panel */
export const sizeOf = (node) => SIZES[node.comfyClass ?? '']

/**
 * Put a panel on a node. Its widget has a name of its own: the frontend's for progress texts is cleared by it.
 * @param {GraphNode} node @param {'line' | 'whole'} size
 * @returns {HTMLElement} the panel, empty
 */
export function addPanel(node, size) {
  const height = HEIGHTS[size]
  const element = document.createElement('section')
  element.className = 'rf-panel'
  element.id = `rf-panel-${++count}`
  element.setAttribute('aria-label', t('panel.label'))
  element.style.minHeight = `${height}px`
  element.style.maxHeight = `${height}px`
  element.dataset.size = size
  keepInside(element)
  const widget = node.addDOMWidget('runflow_panel', 'runflow_panel', element, {
    serialize: false,
    hideOnZoom: false,
    margin: MARGIN,
    getValue: () => '',
    setValue: () => {},
    getMinHeight: () => height + 2 * MARGIN,
    getMaxHeight: () => height + 2 * MARGIN
  })
  widget.serialize = false
  node.setSize([Math.max(node.size[0], WIDTH), node.computeSize()[1]])
  return element
}
