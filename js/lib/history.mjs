/** The sidebar: every evaluation in the journal, newest first. */
import { chart } from './chart.mjs'
import { details } from './details.mjs'
import { button, el, fill, named } from './dom.mjs'
import { ago, score, seconds } from './format.mjs'
import { List } from './list.mjs'
import { picture } from './panel.mjs'
import { t } from './text.mjs'

const ROW = 62
const DAYS = 30
const TYPING_MS = 250
const OUTCOMES = ['passed', 'failed', 'unknown', 'error', 'open', 'closed', 'abandoned']

const verdict = ({ outcome, score: reached }) => [el('strong', {}, t(`history.outcome.${outcome}`)), el('span', {}, reached === null ? '' : score(reached))]

export class History {
  /** @param {object} host `server`, `note(text, severity)`, `show(evaluationId)` */
  constructor(host) {
    this.host = host
    this.server = host.server
    this.query = { search: '', outcome: '' }
  }

  render(parent) {
    this.list = new List({ height: ROW, label: t('history.title'), row: (row) => this.#row(row), more: () => this.#more() })
    this.figure = el('div')
    this.empty = el('p.rf-quiet', { role: 'status' }, t('settings.reading'))
    this.front = el('div.rf-front', {}, this.#tools(), this.figure, this.empty, this.list.element)
    this.back = el('div.rf-back', { hidden: true })
    this.element = el('div.rf-page.rf-history', { 'aria-label': t('history.title'), role: 'region' }, this.front, this.back)
    parent.style.height = '100%'
    parent.replaceChildren(this.element)
    this.refresh()
  }

  destroy() {
    this.list?.destroy()
    this.element = null
  }

  /** A run has ended: who reads further down is told, and keeps the place. */
  ended() {
    if (!this.element) return
    if (!this.list.element.scrollTop && !this.front.hidden) return this.refresh()
    this.empty.textContent = t('history.newer')
    return this.#chart()
  }

  /** Read again what is newest; only where somebody looks. */
  async refresh() {
    if (!this.element) return
    Object.assign(this, { rows: [], next: '', reading: null })
    this.list.element.scrollTop = 0
    await Promise.all([this.#more(), this.#chart()])
  }

  #tools() {
    const search = el('input.rf-input', { type: 'search', placeholder: t('history.search'), 'aria-label': t('history.search'), oninput: () => {
      clearTimeout(this.typing)
      this.typing = setTimeout(() => this.#ask({ search: search.value }), TYPING_MS)
    } })
    const outcome = el('select.rf-input', { 'aria-label': t('history.filter'), onchange: () => this.#ask({ outcome: outcome.value }) },
      ['', ...OUTCOMES].map((each) => el('option', { value: each }, t(`history.outcome.${each || 'all'}`))))
    const save = (kind) => button(kind, () => this.server.save(`history.${kind.toLowerCase()}`, this.query), named(t('history.export', { kind })))
    return el('div.rf-tools', {}, search, el('div.rf-row', {}, outcome, save('CSV'), save('JSON'),
      button('↻', () => this.refresh(), named(t('history.refresh')))))
  }

  #ask(change) {
    Object.assign(this.query, change)
    return this.refresh()
  }

  /** The next page, once, however often the list asks. */
  #more() {
    return this.next === null ? null : (this.reading ??= this.#read(this.rows, { ...this.query, before: this.next }))
  }

  async #read(rows, query) {
    await this.#tried(async () => {
      const page = await this.server.history(query)
      if (rows !== this.rows) return // asked for something else meanwhile
      rows.push(...page.rows)
      this.next = page.next
      if (!query.before) this.empty.textContent = rows.length ? '' : t(query.search || query.outcome ? 'history.none' : 'history.empty')
    })
    if (rows !== this.rows) return
    this.reading = null
    this.list.set(rows, this.next === null)
  }

  #chart() {
    return this.#tried(async () => fill(this.figure, chart(await this.server.get(`days?days=${DAYS}`))))
  }

  async #tried(act) {
    try {
      await act()
    } catch (error) {
      this.next = null
      if (this.element) this.empty.textContent = error.message
    }
  }

  #row(row) {
    const facts = [row.cost && t('panel.credits', { cost: row.cost }), seconds(row.seconds), ago(row.created_at * 1000)]
    return el('button.rf-history-row', { type: 'button', 'data-outcome': row.outcome, onclick: () => this.#open(row) },
      el('span.rf-thumbnail', {}, picture((hash) => this.server.thumbnail(hash), row.image, '')),
      el('span.rf-cells', {},
        el('span.rf-row-head', {}, verdict(row), row.feedback.rating !== 'none' && el('span.rf-chip', {}, t(`rating.said.${row.feedback.rating}`))),
        el('span.rf-cut', {}, row.prompt || row.issue || row.id || row.failure || '–'),
        el('span.rf-cut.rf-quiet', {}, facts.filter(Boolean).join(' · '))))
  }

  async #open(row) {
    if (!row.id) return this.host.note(t('history.no_id'), 'info')
    await this.#tried(async () => this.#show(row, await this.server.detail(row.id)))
  }

  #show(row, more) {
    const rate = async (rating, reason) => {
      const { feedback } = await this.server.post('feedback', { id: more.id, rating, reason })
      row.feedback = feedback
      this.#show(row, { ...more, feedback })
    }
    const close = () => {
      this.back.hidden = true
      this.front.hidden = false
      this.list.draw(true)
      this.list.focus(this.rows.indexOf(row))
    }
    fill(this.back,
      el('div.rf-row', {},
        button(t('history.back'), close, { 'data-focus': 'back' }),
        button(t('history.show'), () => this.host.show(more.id), { 'data-focus': 'show' })),
      el('div.rf-row-head', { 'data-outcome': row.outcome },
        verdict(row), el('span.rf-quiet', {}, ago(row.created_at * 1000))),
      el('div.rf-large', {}, picture((hash) => this.server.thumbnail(hash), row.image, '')),
      more.prompt && el('section', {}, el('h4', {}, t('history.prompt')), el('blockquote.rf-prompt', {}, more.prompt)),
      details({ ...more, judge: 'runflow' }, more, { ...this.host, title: '', rate }))
    this.front.hidden = true
    this.back.hidden = false
    if (!this.back.contains(document.activeElement)) this.back.querySelector('button').focus()
  }
}
