// @vitest-environment happy-dom
import assert from 'node:assert/strict'
import { afterEach, beforeEach, test, vi } from 'vitest'
import { open } from '../../js/lib/comfy/app.mjs'
import { close, inspect, refresh } from '../../js/lib/view/popover.mjs'

const detail = { feedback: { rating: 'none', reason: '' }, judges: [], issues: [], gates: [] }
const api = {
  apiURL: (route) => route,
  fetchApi: async () => new Response(JSON.stringify(detail))
}
const item = (id, verdict) => ({
  ...{ id, verdict, score: 0.5, image: '', judge: 'runflow', issues: [`issue of ${id}`] },
  ...{ notes: [], strengths: [], judges: [], improved_prompt: '', cost: '', seconds: null }
})
const found = (one, more = {}) => ({
  ...{ items: [one], loop: null, picked: '', outdated: false, prompt: '' },
  ...more
})

let now
const said = () => document.querySelector('.rf-inspector').textContent

beforeEach(async () => {
  open({}, api)
  now = found(item('e1', 'failed'))
  const subject = { read: () => now, usePrompt: null, opener: () => null }
  inspect(subject, 0, new DOMRect(0, 0, 10, 10))
  await vi.waitFor(() => assert.ok(document.querySelector('[data-focus="rate-bad"]')), 20_000)
})
afterEach(() => {
  close()
  open(null, null)
})

test('what is read stays while the next verdict is on its way, and then gives way to it', () => {
  now = found(item(null, 'unknown'), { waits: true })
  refresh()
  assert.match(said(), /issue of e1/)
  now = found(item('e2', 'passed'))
  refresh()
  assert.match(said(), /issue of e2/)
})

test('a reason that is typed stays with the verdict that it is about', () => {
  document.querySelector('[data-focus="rate-bad"]').click()
  const reason = document.querySelector('[data-focus="reason"]')
  reason.value = 'the hand is fi'
  now = found(item('e2', 'passed'))
  refresh()
  assert.match(said(), /issue of e1/)
  assert.match(said(), /outdated/)
  assert.equal(document.querySelector('[data-focus="reason"]'), reason)
  reason.value = ''
  refresh()
  assert.match(said(), /issue of e2/)
})
