/** The panel on a node: what it would cost, that it waits, what came out. One height for all of them: no jumps. */
import { costAndTime, details } from './details.mjs'
import { button, el, fill } from './dom.mjs'
import { ago, score } from './format.mjs'
import { attemptBlock, cleanLoop } from './loop.mjs'
import { t } from './text.mjs'
import { clean, summary } from './verdicts.mjs'

const HEIGHT = { folded: 82, strip: 54, open: 300 }
const SIGNS = { passed: '✓', failed: '✕', unknown: '?', waiting: '…', idle: '○' }
let panels = 0

export class Panel {
  /**
   * @param {object} host `thumbnail(hash)`, `detail(id)`, `rate(id, …)`, `usePrompt(text)`, `note(text)`, `resized(by)`,
   *   `useAttempt(loop, attempt, wins)`, `picked()` the image of the attempt that a person took, `changed({open})`
   */
  constructor(host) {
    this.host = host
    this.state = { phase: 'idle', line: '' }
    this.verdicts = []
    this.loop = null
    this.selected = null
    this.open = false
    this.details = new Map()
    this.id = `rf-panel-${++panels}`
    this.element = this.#frame()
    this.draw()
  }

  get height() {
    return HEIGHT.folded + (this.#items().length > 1 ? HEIGHT.strip : 0) + (this.open ? HEIGHT.open : 0)
  }

  /** Before Run: the price, or why it will not run. Does not take a verdict away. */
  idle(line, warns = false) {
    this.idleLine = { line, warns }
    if (this.state.phase === 'idle') this.#go({ phase: 'idle', line, warns })
  }

  waiting(line, attempt = '') {
    this.#go({ phase: 'waiting', line, attempt })
  }

  /** It ended without a verdict: an error's text, or that it was cancelled. */
  ended(title, line) {
    this.verdicts = []
    this.loop = null
    this.#go({ phase: 'ended', title, line })
  }

  /** `shown`: `{verdicts, loop}` as the node sent them. `earlier`: when, where it was before this page. */
  show(shown, earlier = null) {
    const before = this.height
    this.verdicts = clean(shown.verdicts)
    this.loop = cleanLoop(shown.loop)
    this.selected = this.loop ? this.loop.winner.number - 1 : summary(this.verdicts).worst
    this.details.clear()
    if (this.verdicts.length || this.loop) this.#go({ phase: 'done', earlier }, before)
    if (this.open) this.#load()
  }

  fold(open) {
    const before = this.height
    this.open = open
    this.draw()
    this.#resized(before)
    this.host.changed({ open })
    if (open) this.#load()
  }

  select(index) {
    this.selected = index
    this.fold(true)
  }

  draw() {
    const { phase } = this.state
    const sum = summary(this.verdicts)
    const outcome = phase === 'done' ? sum.outcome : phase === 'ended' ? 'unknown' : phase
    this.element.dataset.outcome = outcome
    this.element.style.minHeight = `${this.height}px`
    fill(this.head, ...this.#head(outcome, sum))
    const line = this.#line(sum)
    this.#said(`${this.#title(sum)}. ${line}`)
    this.meter.hidden = phase !== 'done' || sum.score === null
    this.meter.setAttribute('aria-valuenow', sum.score ?? 0)
    this.meter.firstChild.style.width = `${Math.round(100 * (sum.score ?? 0))}%`
    this.line.textContent = this.line.title = line
    this.line.classList.toggle('rf-warn', phase === 'idle' && this.state.warns === true)
    this.#drawStrip()
    this.body.hidden = !this.open
    fill(this.body, ...(this.open ? this.#body() : []))
  }

  #frame() {
    this.head = el('div.rf-head')
    this.meter = el('div.rf-meter', { role: 'meter', 'aria-label': t('panel.score'), 'aria-valuemin': 0, 'aria-valuemax': 1 }, el('div'))
    this.line = el('div.rf-line')
    this.live = el('div.rf-hidden', { role: 'status', 'aria-live': 'polite' })
    this.strip = el('div.rf-strip', { role: 'group', 'aria-label': t('panel.images') })
    this.body = el('div.rf-body', { id: `${this.id}-body`, tabindex: 0, role: 'region', 'aria-label': t('panel.details'), 'data-capture-wheel': 'true', 'data-focus': 'body' })
    const stop = (event) => event.stopPropagation()
    return el('section.rf-panel', { 'aria-label': t('panel.label'), onpointerdown: stop, onwheel: (event) => this.#wheel(event), onkeydown: (event) => event.target.matches('textarea') && stop(event) },
      this.head, el('div.rf-track', {}, this.meter), this.line, this.live, this.strip, this.body)
  }

  #head(outcome, sum) {
    const toggles = this.open || (this.state.phase === 'done' && sum.judge !== 'off') || this.state.phase === 'ended'
    return [
      el('span.rf-sign', { 'aria-hidden': 'true' }, SIGNS[outcome] ?? SIGNS.unknown),
      el('strong.rf-title', {}, this.#title(sum)),
      ...this.#chips(sum).map((chip) => el('span.rf-chip', {}, chip)),
      el('span.rf-score', {}, this.state.phase === 'done' && sum.score !== null ? score(sum.score) : ''),
      toggles && button(this.open ? t('panel.less') : t('panel.more'), () => this.fold(!this.open), {
        'aria-expanded': String(this.open), 'aria-controls': `${this.id}-body`, 'data-focus': 'toggle'
      })
    ]
  }

  #title(sum) {
    const { phase, title } = this.state
    if (phase === 'ended') return title
    if (phase !== 'done') return t(`panel.${phase}`)
    if (sum.judge === 'off') return t('panel.off')
    const batch = this.verdicts.length > 1
    return batch ? t('panel.batch', { passed: sum.passed, all: this.verdicts.length }) : t(`panel.${this.verdicts.length ? sum.outcome : 'unknown'}`)
  }

  #chips(sum) {
    const { phase, attempt, earlier } = this.state
    if (phase !== 'done') return attempt ? [attempt] : []
    const judge = ['local', 'preflight'].includes(sum.judge) && t(`panel.${sum.judge}`)
    return [judge, this.loop && this.#isPicked(this.loop.winner) && t('panel.yours'), earlier && ago(earlier)].filter(Boolean)
  }

  #line(sum) {
    const { phase, line } = this.state
    if (phase !== 'done') return line ?? ''
    if (sum.judge === 'off') return t('idle.off')
    const reason = this.loop?.reason
    return [this.verdicts[sum.worst]?.issues[0], ...costAndTime(sum), reason !== sum.outcome && reason].filter(Boolean).join(' · ')
  }

  /** What the strip shows: the attempts of a loop, else the images of a batch. */
  #items() {
    return this.loop?.attempts ?? this.verdicts
  }

  /** Whether a person took this attempt, whatever the judge chose. */
  #isPicked({ image }) {
    return this.loop && image !== '' && image === this.host.picked()
  }

  /** Only when something changed: seconds tick by, and pictures would flicker. */
  #drawStrip() {
    const items = this.#items()
    const drawn = JSON.stringify([items, this.open && this.selected, this.host.picked()])
    if (drawn === this.drawn) return
    this.drawn = drawn
    this.strip.hidden = items.length < 2
    fill(this.strip, ...(items.length < 2 ? [] : this.#strip(items)))
  }

  #strip(items) {
    return items.map((each, index) => el('button.rf-image', {
      type: 'button', 'data-outcome': each.verdict, 'data-focus': `image-${index}`, onclick: () => this.select(index),
      'aria-pressed': String(this.open && index === this.selected), 'aria-current': each === this.loop?.winner ? 'true' : null,
      'aria-label': [t(this.loop ? 'loop.label' : 'panel.image', { n: index + 1, outcome: t(`panel.${each.verdict}`), score: score(each.score) }), this.#isPicked(each) && t('panel.yours')].filter(Boolean).join(', ')
    }, picture(this.host.thumbnail, each.image, index + 1),
    this.#isPicked(each) && el('span.rf-star', { 'aria-hidden': 'true' }, '★'),
    el('span.rf-mark', { 'aria-hidden': 'true' }, this.loop ? score(each.score) : SIGNS[each.verdict])))
  }

  #body() {
    const all = this.#items()
    const item = all[this.selected]
    if (!item) return [el('p', {}, this.#line(summary(this.verdicts)))]
    const title = !this.loop && all.length > 1 ? t('panel.nth', { n: this.selected + 1, all: all.length }) : ''
    // Of the attempt that came out the node sent everything, of the others a line each.
    const verdict = item === this.loop?.winner && this.verdicts.length === 1 ? this.verdicts[0] : item
    const picked = this.#isPicked(item)
    const attempt = this.loop && attemptBlock(this.loop, item, picked, (...chosen) => {
      this.host.useAttempt(this.loop, ...chosen)
      this.draw()
    })
    const overruled = picked && item !== this.loop.winner && item.verdict !== 'passed' && t('rating.taken', { n: item.number, winner: this.loop.winner.number })
    return [attempt, ...details(verdict, this.details.get(verdict.id), { ...this.host, title, overruled, rate: (rating, reason) => this.#rate(verdict, rating, reason) })]
  }

  /** What the journal has about the selected image; read once, and only when somebody looks. */
  async #load() {
    const { id } = this.#items()[this.selected] ?? {}
    if (!id || this.details.has(id)) return
    this.details.set(id, null)
    try {
      this.details.set(id, await this.host.detail(id))
    } catch (error) {
      this.details.set(id, { trouble: error.message })
    }
    if (this.open) this.draw()
  }

  async #rate(verdict, rating, reason) {
    const { feedback } = await this.host.rate(verdict.id, rating, reason)
    this.details.set(verdict.id, { ...this.details.get(verdict.id), feedback })
    this.draw()
    this.#said(t(`rating.said.${feedback.rating}`))
  }

  #go(state, before = this.height) {
    this.state = state
    this.draw()
    this.#resized(before)
  }

  #resized(before) {
    if (this.height !== before) this.host.resized(this.height - before)
  }

  /** Seconds tick by: a screen reader is told the state, not every second. */
  #said(text) {
    const spoken = this.state.phase === 'waiting' ? t('panel.waiting') : text
    if (this.live.textContent !== spoken) this.live.textContent = spoken
  }

  /** Scroll what can be scrolled; else the canvas zooms as it does elsewhere on a node. */
  #wheel(event) {
    if (this.body.contains(event.target) && this.body.scrollHeight > this.body.clientHeight) event.stopPropagation()
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
