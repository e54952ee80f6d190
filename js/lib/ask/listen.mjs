/** Hears that a person is asked. What shows the questions is loaded with the first of them. */
import { api } from '../comfy/app.mjs'
import { request } from '../server.mjs'

const EVENT = 'runflow-evaluate.ask'

/** @type {Promise<typeof import('./page.mjs')> | null} */
let page = null
let isRead = false

export function listen() {
  api.addEventListener(EVENT, ({ detail }) => hear(detail))
  api.addEventListener('reconnected', readOpen)
}

/** @param {any} said */
async function hear(said) {
  if (said?.phase === 'open') page ??= import('./page.mjs')
  ;(await page)?.hear(said)
}

/** What waits for this page's answer after a reload: once, because from then on the page hears of questions. */
export function readOpenOnce() {
  if (isRead) return
  isRead = true
  readOpen()
}

/** What waits for this page's answer, and what ended while it was not connected. */
async function readOpen() {
  try {
    const before = (await page)?.known() ?? [] // what comes meanwhile is not in the answer
    const { questions } = await request(`ask?client=${encodeURIComponent(api.clientId ?? '')}`)
    if (questions.length) page ??= import('./page.mjs')
    ;(await page)?.replace(questions, before)
  } catch (error) {
    console.debug('Runflow Evaluate: open questions could not be read', error)
  }
}
