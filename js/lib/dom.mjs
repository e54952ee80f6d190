/** Builds elements. Text goes in as text and never as markup, so whatever an API sent stays text. */

/**
 * @param {string} tag `div`, or `div.one.two` with classes
 * @param {object} [attributes] `on…` are listeners, true is an empty attribute, null and false leave it out
 * @param {...(Node|string|number|null|false|Array)} children
 */
export function el(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split('.')
  const made = document.createElement(name)
  if (classes.length) made.className = classes.join(' ')
  for (const [key, value] of Object.entries(attributes)) {
    if ((value ?? false) === false) continue
    if (key.startsWith('on')) made.addEventListener(key.slice(2), value)
    else made.setAttribute(key, value === true ? '' : value)
  }
  made.append(...children.flat(3).filter((child) => child || child === 0))
  return made
}

export function button(label, onclick, attributes = {}) {
  return el('button.rf-button', { type: 'button', onclick, ...attributes }, label)
}

/** For a button that is an icon: its name, also to be seen. */
export const named = (text) => ({ title: text, 'aria-label': text })

/** Replace what an element holds, keeping the focus where it was, by `data-focus`. */
export function fill(parent, ...children) {
  const focused = parent.contains(document.activeElement) ? document.activeElement.dataset.focus : null
  parent.replaceChildren(...children.flat(3).filter(Boolean))
  if (focused) parent.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus()
}

/** Copy text; without permission the browser's own way, so that it works on plain http too. */
export async function copy(text, beside) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text)
  const area = el('textarea', { style: 'position:fixed;opacity:0' })
  area.value = text
  beside.after(area)
  area.select()
  document.execCommand('copy')
  area.remove()
}
