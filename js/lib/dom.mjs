/**
 * Elements as plain descriptions, and one `patch` that makes a page say what they describe.
 *
 * A view is a pure function from state to descriptions. `patch` changes only what differs from the last description,
 * so that focus, selection, scroll, typed text and opened details survive. Text goes in as text and never as markup:
 * whatever an API sent stays text.
 */

/**
 * @typedef {string | number | null | undefined | false | Description} Child
 * @typedef {Child | Children[]} Children
 * @typedef {object} Description
 * @property {string} tag
 * @property {string} namespace "" is HTML
 * @property {string | number | null} key what it is recognised by among its siblings
 * @property {Record<string, any>} attributes
 * @property {(string | Description)[]} children
 */

const SVG = 'http://www.w3.org/2000/svg'
/** What an element holds beside attributes: set only where the description of it changes. */
const PROPERTIES = new Set(['value', 'checked', 'open', 'scrollTop', 'indeterminate'])

/** @type {WeakMap<Node, Description>} what each element was last made to be */
const described = new WeakMap()
/** @type {WeakMap<EventTarget, Record<string, (event: any) => unknown>>} */
const listeners = new WeakMap()

/**
 * Describe an element.
 * @param {string} tag `div`, or `div.one.two` with classes; `svg:path` for SVG
 * @param {Record<string, any>} [attributes] `on…` are listeners, `key` tells siblings apart, true is an empty
 *   attribute, null, undefined and false leave it out
 * @param {...Children} children empty ones are left out
 * @returns {Description}
 */
export function element(tag, attributes = {}, ...children) {
  const { key = null, ...others } = attributes
  const [name, ...classes] = tag.split('.')
  const svg = name.startsWith('svg:')
  if (classes.length) others.class = [...classes, others.class].filter(Boolean).join(' ')
  return {
    tag: svg ? name.slice(4) : name,
    namespace: svg ? SVG : '',
    key,
    attributes: others,
    children: flat(children)
  }
}

/**
 * @param {string} label
 * @param {(event: any) => unknown} onclick
 * @param {Record<string, any>} [attributes]
 */
export function button(label, onclick, attributes = {}) {
  return element('button.rf-button', { type: 'button', onclick, ...attributes }, label)
}

/** For a button that is an icon: its name, also to be seen. @param {string} text */
export const named = (text) => ({ title: text, 'aria-label': text })

/** Make the element that a description describes. @param {Description} description */
export function create(description) {
  const made = /** @type {HTMLElement} */ (
    description.namespace
      ? document.createElementNS(description.namespace, description.tag)
      : document.createElement(description.tag)
  )
  made.append(...description.children.map(madeOf))
  // After the children: a list of choices takes a value only when it has it.
  for (const [name, value] of Object.entries(description.attributes)) set(made, name, value)
  described.set(made, description)
  return made
}

/** @param {string | Description} child */
const madeOf = (child) =>
  typeof child === 'string' ? document.createTextNode(child) : create(child)

/**
 * Make an element hold exactly these, and change nothing that is so already.
 * @param {Element} parent
 * @param {...Children} children
 */
export function patch(parent, ...children) {
  const focused = parent.contains(document.activeElement) ? document.activeElement : null
  patchChildren(parent, flat(children))
  if (focused && !focused.isConnected) refocus(parent, focused)
}

/** The focus goes to what has the same `data-focus`. @param {Element} parent @param {Element} lost */
function refocus(parent, lost) {
  const name = /** @type {HTMLElement} */ (lost).dataset?.focus
  const next = name && parent.querySelector(`[data-focus="${CSS.escape(name)}"]`)
  if (next instanceof HTMLElement) next.focus()
}

/** @param {Element} parent @param {(string | Description)[]} wanted */
function patchChildren(parent, wanted) {
  const keyed = new Map()
  const plain = []
  for (const node of parent.childNodes) {
    const key = described.get(node)?.key ?? null
    if (key === null) plain.push(node)
    else keyed.set(key, node)
  }
  /** @type {ChildNode | null} */
  let next = parent.firstChild
  for (const child of wanted) {
    const key = typeof child === 'string' ? null : child.key
    const old = key === null ? takeAlike(plain, child) : keyed.get(key)
    if (key !== null) keyed.delete(key)
    const node = old && isAlike(old, child) ? patchNode(old, child) : madeOf(child)
    if (node === next) next = node.nextSibling
    else parent.insertBefore(node, next)
  }
  while (next) {
    const gone = next
    next = next.nextSibling
    gone.remove()
  }
}

/** The first of the nodes without a key that can become this child. @param {ChildNode[]} nodes @param {any} child */
function takeAlike(nodes, child) {
  const index = nodes.findIndex((node) => isAlike(node, child))
  return index < 0 ? null : nodes.splice(index, 1)[0]
}

/** @param {Node} node @param {string | Description} child */
function isAlike(node, child) {
  if (typeof child === 'string') return node.nodeType === Node.TEXT_NODE
  const before = described.get(node)
  return (
    before?.tag === child.tag && before.namespace === child.namespace && before.key === child.key
  )
}

/** @param {any} node @param {string | Description} child */
function patchNode(node, child) {
  if (typeof child === 'string') {
    if (node.data !== child) node.data = child
    return node
  }
  const before = described.get(node)?.attributes ?? {}
  patchChildren(node, child.children)
  for (const name of Object.keys(before)) if (!(name in child.attributes)) set(node, name, null)
  for (const [name, value] of Object.entries(child.attributes)) {
    if (before[name] !== value) set(node, name, value)
  }
  described.set(node, child)
  return node
}

/** @param {HTMLElement} node @param {string} name @param {any} value */
function set(node, name, value) {
  if (name.startsWith('on')) return listen(node, name.slice(2), value)
  if (PROPERTIES.has(name)) {
    Object.assign(node, { [name]: value ?? (name === 'value' ? '' : false) })
    return
  }
  if (value === null || value === undefined || value === false) node.removeAttribute(name)
  else node.setAttribute(name, value === true ? '' : String(value))
}

/** One listener per event for the life of an element: a new function only takes its place. */
/** @param {HTMLElement} node @param {string} event @param {((event: any) => unknown) | null} act */
function listen(node, event, act) {
  const own = listeners.get(node) ?? {}
  if (!(event in own))
    node.addEventListener(event, (given) => listeners.get(node)?.[event]?.(given))
  own[event] = act ?? (() => {})
  listeners.set(node, own)
}

/** @param {any[]} children @returns {(string | Description)[]} neighbouring texts become one */
function flat(children) {
  /** @type {(string | Description)[]} */
  const found = []
  for (const child of children.flat(9)) {
    if (child === null || child === undefined || child === false || child === '') continue
    const last = found.length - 1
    if (typeof child === 'object') found.push(child)
    else if (typeof found[last] === 'string') found[last] += String(child)
    else found.push(String(child))
  }
  return found
}

/** Copy text; without permission the browser's own way, so that it works on plain http too. */
/** @param {string} text @param {Element} beside */
export async function copy(text, beside) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text)
  const area = document.createElement('textarea')
  area.style.cssText = 'position:fixed;opacity:0'
  area.value = text
  beside.after(area)
  area.select()
  document.execCommand('copy')
  area.remove()
}

const EDITING = new Set(['a', 'c', 'v', 'x', 'z', 'y'])

/**
 * Keep what happens inside one of the pack's roots away from ComfyUI: its canvas copies and pastes nodes, deletes
 * them, zooms and drags on events that reach it.
 * @param {HTMLElement} root
 */
export function keepInside(root) {
  const stop = (/** @type {Event} */ event) => event.stopPropagation()
  for (const name of ['copy', 'cut', 'paste', 'pointerdown', 'dblclick', 'contextmenu'])
    root.addEventListener(name, stop)
  root.addEventListener('keydown', (event) => {
    const command = event.ctrlKey || event.metaKey || event.altKey
    if (!command || EDITING.has(event.key.toLowerCase())) event.stopPropagation()
  })
  root.addEventListener('wheel', (event) => {
    if (!event.ctrlKey && !event.metaKey && scrolls(event.target, root, event))
      event.stopPropagation()
  })
}

/** Whether something between the target and the root can scroll that way. */
/** @param {any} target @param {HTMLElement} root @param {WheelEvent} event */
function scrolls(target, root, event) {
  for (let each = target; each instanceof Element; each = each.parentElement) {
    const high =
      each.scrollHeight > each.clientHeight && /auto|scroll/.test(getComputedStyle(each).overflowY)
    const wide =
      each.scrollWidth > each.clientWidth && /auto|scroll/.test(getComputedStyle(each).overflowX)
    if (high || (wide && event.deltaX)) return true
    if (each === root) return false
  }
  return false
}
