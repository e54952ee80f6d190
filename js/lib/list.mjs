/** A list of any length: only the rows in sight are in the page. Rows have one height. */
import { el } from './dom.mjs'

const BEYOND = 6

export class List {
  /** @param {object} options `height` of a row in px, `row(item, index)` its element, `more()` asks for further items */
  constructor({ height, row, more, label }) {
    Object.assign(this, { height, row, more, items: [], complete: false })
    this.inner = el('div.rf-list-inner')
    this.element = el('div.rf-list', { role: 'list', 'aria-label': label, tabindex: -1, onscroll: () => this.draw(), onkeydown: (event) => this.#key(event) }, this.inner)
    this.resizes = new ResizeObserver(() => this.draw())
    this.resizes.observe(this.element)
  }

  /** `complete`: there are no further items to ask for. */
  set(items, complete) {
    this.items = items
    this.complete = complete
    this.draw(true)
  }

  draw(anew = false) {
    const { scrollTop, clientHeight } = this.element
    const first = Math.max(0, Math.floor(scrollTop / this.height) - BEYOND)
    const last = Math.min(this.items.length, Math.ceil((scrollTop + clientHeight) / this.height) + BEYOND)
    if (!anew && first === this.first && last === this.last) return
    const focused = Number(document.activeElement?.dataset?.index ?? -1)
    Object.assign(this, { first, last })
    this.inner.style.height = `${this.items.length * this.height}px`
    this.inner.replaceChildren(...this.items.slice(first, last).map((item, offset) => this.#placed(item, first + offset)))
    this.focus(focused)
    if (!this.complete && last + BEYOND >= this.items.length) this.more()
  }

  destroy() {
    this.resizes.disconnect()
  }

  #placed(item, index) {
    const row = this.row(item, index)
    row.dataset.index = index
    return el('div.rf-list-item', {
      role: 'listitem', 'aria-posinset': index + 1, 'aria-setsize': this.complete ? this.items.length : -1,
      style: `top:${index * this.height}px;height:${this.height}px`
    }, row)
  }

  #key(event) {
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key]
    const from = Number(event.target.dataset?.index)
    if (!by || !(from >= 0)) return
    event.preventDefault()
    const to = Math.min(this.items.length - 1, Math.max(0, from + by))
    const { scrollTop, clientHeight } = this.element
    if (to * this.height < scrollTop) this.element.scrollTop = to * this.height
    if ((to + 1) * this.height > scrollTop + clientHeight) this.element.scrollTop = (to + 1) * this.height - clientHeight
    this.draw()
    this.focus(to)
  }

  focus(index) {
    this.inner.querySelector(`[data-index="${index}"]`)?.focus({ preventScroll: true })
  }
}
