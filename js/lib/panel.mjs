/** The panel on a node: what it would cost, that it waits, what came out. One height for all of them: no jumps. */
import { costAndTime, details } from './details.mjs'
import { button, el, fill } from './dom.mjs'
import { ago, score } from './format.mjs'
import { attemptBlock, cleanLoop } from './loop.mjs'
import { t } from './text.mjs'
import { clean, summary } from './verdicts.mjs'

const HEIGHT = { folded: 82, strip: 54, open: 300 }
const NOTHING = { verdicts: [], loop: null }
const SIGNS = { passed: '✓', failed: '✕', unknown: '?', waiting: '…', idle: '○' }
let panels = 0

export class Panel {
  /** @param {object} host what `Panels` gives it */
  constructor(host) {
    this.host = host
    Object.assign(this, NOTHING, { state: { phase: 'idle' } })
    this.id = `rf-panel-${++panels}`
    this.element = this.#frame()
    this.draw()
  }

  /** Kept with the node, as its height is. */
  get open() {
    return this.host.properties().runflow_open === true
  }

  set open(open) {
    this.host.properties().runflow_open = open
  }

  get height() {
    return HEIGHT.folded + (this.items.length > 1 ? HEIGHT.strip : 0) + (this.open ? HEIGHT.open : 0)
  }

  /** What the next Run would cost, or why this will not run. Does not take a verdict away. */
  idle(line, warns) {
    this.next = { line, warns }
    if (this.state.phase === 'idle') this.reset()
    else this.#drawLine()
  }

  reset() {
    this.#go({ phase: 'idle', ...this.next }, NOTHING)
  }

  waiting(line, attempt) {
    this.#go({ phase: 'waiting', line, attempt })
  }

  /** It ended without a verdict: an error's text, or that it was cancelled. */
  ended(title, line) {
    this.#go({ phase: 'ended', title, line }, NOTHING)
  }

  /** `shown`: `{verdicts, loop}` as the node sent them for these inputs. `earlier`: when, where it was before this page. */
  show(shown, identity, earlier) {
    const verdicts = clean(shown.verdicts)
    const loop = cleanLoop(shown.loop, verdicts)
    if (!verdicts.length && !loop) return
    const first = loop ? loop.items.indexOf(loop.winner.items[0]) : 0
    this.#go({ phase: 'done', earlier }, { verdicts, loop, identity, selected: first + summary(verdicts).worst, details: new Map() })
    if (this.open) this.#load()
  }

  fold(open) {
    this.#go(this.state, { open })
    if (open) this.#load()
  }

  select(index) {
    this.selected = index
    this.fold(true)
  }

  draw() {
    const { phase } = this.state
    const sum = summary(this.verdicts)
    const outcome = { done: sum.outcome, ended: 'unknown' }[phase] ?? phase
    this.element.dataset.outcome = outcome
    this.element.style.minHeight = `${this.height}px`
    fill(this.head, ...this.#head(outcome, sum))
    this.#drawLine(sum)
    this.#said(`${this.#title(sum)}. ${this.line.title}`)
    this.meter.hidden = phase !== 'done' || sum.score === null
    this.meter.setAttribute('aria-valuenow', sum.score ?? 0)
    this.meter.firstChild.style.width = `${Math.round(100 * (sum.score ?? 0))}%`
    this.#drawStrip()
    this.body.hidden = !this.open
    fill(this.body, ...(this.open ? this.#body() : []))
  }

  /** Two lines, of which a long one does not push the other out. */
  #drawLine(sum = summary(this.verdicts)) {
    const lines = this.#lines(sum)
    this.line.title = lines.join(' · ')
    this.line.classList.toggle('rf-warn', ['idle', 'done'].includes(this.state.phase) && this.next?.warns === true)
    fill(this.line, ...(lines[1] ? lines.map((each) => el('div.rf-cut', {}, each)) : lines))
  }

  #frame() {
    this.head = el('div.rf-head')
    this.meter = el('div.rf-meter', { role: 'meter', 'aria-label': t('panel.score'), 'aria-valuemin': 0, 'aria-valuemax': 1 }, el('div'))
    this.line = el('div.rf-line')
    this.live = el('div.rf-hidden', { role: 'status', 'aria-live': 'polite' })
    this.strip = el('div.rf-strip', { role: 'group', 'aria-label': t('panel.images') })
    this.body = el('div.rf-body', { id: `${this.id}-body`, tabindex: 0, role: 'region', 'aria-label': t('panel.details'), 'data-capture-wheel': 'true', 'data-focus': 'body' })
    const stop = (event) => event.stopPropagation() // scrolls what can be scrolled; else the canvas zooms
    return el('section.rf-panel', { 'aria-label': t('panel.label'), onpointerdown: stop, onwheel: (event) => this.body.contains(event.target) && this.body.scrollHeight > this.body.clientHeight && stop(event), onkeydown: (event) => event.target.matches('textarea') && stop(event) },
      this.head, el('div.rf-track', {}, this.meter), this.line, this.live, this.strip, this.body)
  }

  #head(outcome, sum) {
    const { phase } = this.state
    const done = phase === 'done'
    return [
      el('span.rf-sign', { 'aria-hidden': 'true' }, SIGNS[outcome]),
      el('strong.rf-title', {}, this.#title(sum)),
      ...this.#chips(sum).map((chip) => el('span.rf-chip', {}, chip)),
      el('span.rf-score', {}, done && sum.score !== null && score(sum.score)),
      (this.open || phase === 'ended' || (done && sum.judge !== 'off')) && button(t(this.open ? 'panel.less' : 'panel.more'), () => this.fold(!this.open), {
        'aria-expanded': String(this.open), 'aria-controls': `${this.id}-body`, 'data-focus': 'toggle'
      })
    ]
  }

  #title(sum) {
    const { phase, title } = this.state
    if (phase === 'ended') return title
    if (phase !== 'done') return t(`panel.${phase}`)
    if (sum.judge === 'off') return t('panel.off')
    const all = this.verdicts.length
    return all > 1 ? t('panel.batch', { passed: sum.passed, all }) : t(`panel.${sum.outcome}`)
  }

  #chips(sum) {
    const { phase, attempt, earlier } = this.state
    if (phase !== 'done') return [attempt].filter(Boolean)
    return [['local', 'preflight'].includes(sum.judge) && t(`panel.${sum.judge}`), this.loop && this.#isPicked(this.loop.winner) && t('panel.yours'), earlier && ago(earlier)].filter(Boolean)
  }

  /** What is wrong, and with the next Run; below it time and credits, of a loop those of all attempts. */
  #lines(sum) {
    const { phase, line } = this.state
    if (phase !== 'done') return [line]
    if (sum.judge === 'off') return [t('idle.off')]
    const { cost, reason } = this.loop ?? {}
    return [
      [this.next?.warns && this.next.line, this.verdicts[sum.worst]?.issues[0]],
      [...costAndTime(this.loop ? { ...sum, cost, reused: sum.reused && !cost, seconds: null } : sum), reason !== sum.outcome && reason]
    ].map((each) => each.filter(Boolean).join(' · ')).filter(Boolean)
  }

  /** What the strip shows: the images of a loop's attempts, else those of a batch. */
  get items() {
    return this.loop?.items ?? this.verdicts
  }

  /** Whether a person took this attempt. */
  #isPicked({ images = [] }) {
    return images.includes(this.host.properties().runflow_picked || null)
  }

  #wins({ number }) {
    return number !== undefined && number === this.loop.winner.number
  }

  /** Only when something changed: seconds tick by, and pictures would flicker. */
  #drawStrip() {
    const { items } = this
    const drawn = JSON.stringify([items, this.open && this.selected, this.host.properties().runflow_picked])
    if (drawn === this.drawn) return
    this.drawn = drawn
    this.strip.hidden = items.length < 2
    fill(this.strip, !this.strip.hidden && items.map((each, index) => el('button.rf-image', {
      type: 'button', 'data-outcome': each.verdict, 'data-focus': `image-${index}`, onclick: () => this.select(index),
      'aria-pressed': String(this.open && index === this.selected), 'aria-current': this.#wins(each) && 'true',
      'aria-label': [t(this.loop ? 'loop.label' : 'panel.image', { n: each.number ?? index + 1, outcome: t(`panel.${each.verdict}`), score: score(each.score) }), this.#isPicked(each) && t('panel.yours')].filter(Boolean).join(', ')
    }, picture(this.host.thumbnail, each.image, index + 1),
    this.#isPicked(each) && el('span.rf-star', { 'aria-hidden': 'true' }, '★'),
    el('span.rf-mark', { 'aria-hidden': 'true' }, this.loop ? score(each.score) : SIGNS[each.verdict]))))
  }

  #body() {
    const all = this.items
    const item = all[this.selected]
    if (!item) return [el('p', {}, this.line.title)]
    const beside = item.number ? this.loop.attempts[item.number - 1].items : all
    const title = beside.length > 1 ? t('panel.nth', { n: beside.indexOf(item) + 1, all: beside.length }) : ''
    const picked = this.#isPicked(item)
    const attempt = this.loop && attemptBlock(this.loop, item, picked, (...chosen) => {
      this.host.useAttempt(this.loop, ...chosen)
      this.draw()
    })
    const overruled = picked && !this.#wins(item) && item.verdict !== 'passed' && t('rating.taken', { n: item.number, winner: this.loop.winner.number })
    return [attempt, ...details(item, this.details.get(item.id), { ...this.host, title, overruled, rate: (rating, reason) => this.#rate(item, rating, reason) })]
  }

  /** What the journal has about the selected image; read once, and only when somebody looks. */
  async #load() {
    const { details } = this
    const { id } = this.items[this.selected] ?? {}
    if (!id || details.has(id)) return
    details.set(id, null)
    details.set(id, await this.host.detail(id).catch((error) => ({ trouble: error.message })))
    if (this.open) this.draw()
  }

  async #rate(verdict, rating, reason) {
    const { feedback } = await this.host.rate(verdict.id, rating, reason)
    this.details.set(verdict.id, { ...this.details.get(verdict.id), feedback })
    this.draw()
    this.#said(t(`rating.said.${feedback.rating}`))
  }

  #go(state, changed) {
    const before = this.height
    Object.assign(this, { state }, changed)
    this.draw()
    if (this.height !== before) this.host.resized(this.height - before)
  }

  /** Seconds tick by: a screen reader is told the state, not every second. */
  #said(text) {
    const spoken = this.state.phase === 'waiting' ? t('panel.waiting') : text
    if (this.live.textContent !== spoken) this.live.textContent = spoken
  }
}

/** A thumbnail, or the number of the image where none was kept. */
export function picture(address, hash, number) {
  const fallback = el('span.rf-number', { 'aria-hidden': 'true' }, number)
  if (!hash) return fallback
  const image = el('img', { src: address(hash), alt: '', draggable: 'false' })
  image.addEventListener('error', () => image.replaceWith(fallback))
  return image
}
