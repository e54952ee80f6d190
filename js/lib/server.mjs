/** The pack's routes. Every failure is an Error with a sentence for a person. */
import { el } from './dom.mjs'

export class Server {
  /** @param {object} api ComfyUI's `api` */
  constructor(api) {
    this.api = api
  }

  status() {
    this.asked ??= this.get('status').catch((error) => {
      console.debug('Runflow Evaluate: no price is known', error)
      this.asked = null
      return null
    })
    return this.asked
  }

  /** Key or limits changed: what panels say about the price is asked for again. */
  changed() {
    this.asked = null
    this.onchange?.()
  }

  history(query) {
    return this.get(`history?${new URLSearchParams(query)}`)
  }

  detail(id) {
    return this.get(`history/${encodeURIComponent(id)}`)
  }

  thumbnail(hash) {
    return this.api.apiURL(`/runflow-evaluate/thumbnails/${encodeURIComponent(hash)}`)
  }

  /** Lets the browser save one of the pack's files. */
  save(path, query) {
    el('a', { href: this.api.apiURL(`/runflow-evaluate/${path}?${new URLSearchParams(query)}`), download: true }).click()
  }

  post(path, body) {
    return this.get(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) })
  }

  async get(path, options) {
    const answer = await this.api.fetchApi(`/runflow-evaluate/${path}`, options)
    const body = await answer.json().catch(() => ({}))
    if (answer.ok) return body
    throw new Error(body.error?.message ?? `HTTP ${answer.status}`)
  }
}
