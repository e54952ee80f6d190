/** The pack's routes. Every request ends in time; every failure is an Error with a sentence for a person. */
import { api } from './comfy/app.mjs'
import { t } from './text.mjs'

const PREFIX = '/runflow-evaluate'
/** How long a page waits, in ms: for what the server has itself, and for what it asks Runflow. */
export const WITHIN_MS = 10_000
export const RUNFLOW_WITHIN_MS = 25_000

export class ServerError extends Error {
  /** @param {string} message @param {string} code @param {number} status 0 where there was no answer */
  constructor(message, code, status) {
    super(message)
    this.code = code
    this.status = status
  }
}

/**
 * @param {string} path under `/runflow-evaluate/`
 * @param {{method?: string, body?: unknown, within?: number}} [options]
 * @returns {Promise<any>} the JSON of the answer
 */
export async function request(path, { method = 'GET', body, within = WITHIN_MS } = {}) {
  const given =
    body === undefined
      ? {}
      : {
          headers: { 'Content-Type': 'application/json' },
          body: JSON.stringify(body)
        }
  const answer = await fetchWithin(`${PREFIX}/${path}`, { method, ...given }, within)
  const said = await answer.json().catch(() => ({}))
  if (answer.ok) return said
  const { message = `HTTP ${answer.status}`, code = 'HTTP' } = said.error ?? {}
  throw new ServerError(message, code, answer.status)
}

/**
 * ComfyUI's `fetchApi`, which ends after so many ms, whatever happens; the answer's body is not read yet.
 * @param {string} route @param {RequestInit} options @param {number} within
 */
export async function fetchWithin(route, options, within = WITHIN_MS) {
  const ending = new AbortController()
  const timer = setTimeout(() => ending.abort(), within)
  try {
    const answer = await api.fetchApi(route, { ...options, signal: ending.signal })
    const text = await answer.text()
    return new Response(answer.status === 204 ? null : text, { status: answer.status })
  } catch (cause) {
    const code = ending.signal.aborted ? 'TIMEOUT' : 'UNREACHABLE'
    throw Object.assign(new ServerError(t(`server.${code.toLowerCase()}`), code, 0), { cause })
  } finally {
    clearTimeout(timer)
  }
}

/** @param {string} path @param {unknown} body */
export const post = (path, body, within = RUNFLOW_WITHIN_MS) =>
  request(path, { method: 'POST', body, within })

/** Where a picture is, by the hash of its pixels; large for a closer look. @param {string} hash */
export const thumbnail = (hash, large = false) =>
  api.apiURL(`${PREFIX}/thumbnails/${encodeURIComponent(hash)}${large ? '?large' : ''}`)

/** What the journal has of an evaluation. @param {string} id @returns {Promise<import('./types').Detail>} */
export const detail = (id) => request(`history/${encodeURIComponent(id)}`)

/** Let the browser save one of the pack's files. @param {string} path @param {Record<string, string>} query */
export function save(path, query) {
  const link = document.createElement('a')
  link.href = api.apiURL(`${PREFIX}/${path}?${new URLSearchParams(query)}`)
  link.download = ''
  link.click()
}

/** How long until `status` is asked for again, in ms: soon at first, as a server that has just started is slow. */
const [SOONEST_MS, LATEST_MS] = [2_000, 30_000]
let againAfter = SOONEST_MS

/** @type {Promise<import('./types').Status | null> | null} */
let asked = null
/** @type {Set<() => void>} */
const readers = new Set()

/** Who would judge and what it costs; null where that cannot be known now. Asked for until the price is known. */
export function status() {
  asked ??= request('status').then(
    (found) => {
      if (found.judge === 'runflow' && !Object.keys(found.prices).length) askAgain()
      else againAfter = SOONEST_MS
      return found
    },
    (error) => {
      console.debug('Runflow Evaluate: no price is known', error)
      askAgain()
      return null
    }
  )
  return asked
}

function askAgain() {
  setTimeout(statusChanged, againAfter)
  againAfter = Math.min(2 * againAfter, LATEST_MS)
}

/** Key, limits or judge changed: it is asked for again. */
export function statusChanged() {
  asked = null
  for (const read of readers) read()
}

/** @param {() => void} read called when `status` may say something else */
export function onStatus(read) {
  readers.add(read)
}
