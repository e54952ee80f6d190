/** The panel as a DOM widget of a node, in both renderers. */
import { keepInside } from '../dom.mjs'
import { t } from '../text.mjs'
import { drawsElements } from './app.mjs'

const WIDTH = 320
const MARGIN = 6
let count = 0

/**
 * Put a panel on a node. Its widget has a name of its own: the frontend's for progress texts is cleared by it.
 * @param {import('../types').GraphNode} node @param {number} height constant
 * @returns {HTMLElement} the panel, empty
 */
export function addPanel(node, height) {
  const element = document.createElement('section')
  element.className = 'rf-panel'
  element.id = `rf-panel-${++count}`
  element.setAttribute('aria-label', t('panel.label'))
  element.style.minHeight = `${height}px`
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

/** Whether a panel can be read where it is now: neither collapsed nor far away. */
/** @param {import('../types').GraphNode} node @param {number} scale of the canvas */
export const isLegible = (node, scale) =>
  !node.flags?.collapsed && (drawsElements() || scale >= 0.45)
