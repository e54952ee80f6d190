// @vitest-environment happy-dom
import assert from 'node:assert/strict'
import { afterEach, beforeEach, test, vi } from 'vitest'
import { open } from '../../js/lib/comfy/app.mjs'

let sent
let answers
let hear
let replace
let now
let noted
const settled = () => new Promise((go) => setTimeout(go))
const root = () => document.querySelector('.rf-ask')
const shown = () => Boolean(root()) && !root().hidden
const press = (key, more = {}) =>
  root().dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, ...more }))
const image = (more = {}) => ({
  prompt: 'a hand',
  instructions: '',
  verdict: null,
  image: 'f0',
  answered: false,
  ...more
})
const question = (id, count = 1) => ({
  id,
  phase: 'open',
  node: '2',
  images: Array.from({ length: count }, () => image())
})

beforeEach(async () => {
  document.body.replaceChildren()
  now = 0
  vi.spyOn(performance, 'now').mockImplementation(() => (now += 1000)) // nobody answers in the first instant
  sent = []
  answers = [{ open: 0 }]
  const api = {
    clientId: 'tab',
    apiURL: (route) => route,
    fetchApi: async (_, { body }) => {
      const said = JSON.parse(body)
      sent.push(said)
      if (said.seen) return new Response('{"open": 1}')
      const answer = answers.shift() ?? { open: 0 }
      return new Response(JSON.stringify(answer), { status: answer.error ? 404 : 200 })
    }
  }
  open({ extensionManager: { toast: { add: () => {} } } }, api)
  vi.resetModules()
  const app = await import('../../js/lib/comfy/app.mjs')
  noted = []
  const add = ({ detail }) => noted.push(detail)
  app.open({ extensionManager: { toast: { add } } }, api)
  const page = await import('../../js/lib/ask/page.mjs')
  hear = page.hear
  replace = page.replace
})
afterEach(() => {
  vi.restoreAllMocks()
  open(null, null)
})

test('the page says that it has the question, and shows the image with its prompt', () => {
  hear(question('q1'))
  assert.deepEqual(sent[0], { id: 'q1', seen: true, client: 'tab' })
  assert.equal(shown(), true)
  assert.equal(root().querySelector('img').getAttribute('src'), '/runflow-evaluate/ask/q1/0')
  assert.match(root().textContent, /a hand/)
})

test('a rejection carries the reason, and a prompt only where it was changed', async () => {
  hear(question('q1'))
  root().querySelector('[data-focus="reason"]').value = 'six fingers'
  press('r')
  await settled()
  assert.deepEqual(sent[1], {
    id: 'q1',
    index: 0,
    accepted: false,
    reason: 'six fingers',
    prompt: ''
  })
  assert.equal(shown(), false)
})

test('images are asked about one after another, and what was typed for one is not kept for the next', async () => {
  answers = [{ open: 1 }, { open: 0 }]
  hear(question('q1', 2))
  root().querySelector('[data-focus="reason"]').value = 'blurred'
  root().querySelector('[data-focus="prompt"]').value = 'a sharp hand'
  press('r')
  await settled()
  assert.equal(root().querySelector('[data-focus="reason"]').value, '')
  press('a')
  await settled()
  assert.deepEqual(
    sent.slice(1).map(({ index, accepted, prompt }) => [index, accepted, prompt]),
    [
      [0, false, 'a sharp hand'],
      [1, true, '']
    ]
  )
})

test('all can be accepted at once, and several questions wait in a row', async () => {
  hear(question('q1', 3))
  hear(question('q2'))
  press('A', { shiftKey: true })
  await settled()
  assert.deepEqual(sent.at(-1), { id: 'q1', accept_all: true })
  assert.match(root().querySelector('img').getAttribute('src'), /q2/)
})

test('a letter that is typed into a field is no answer', () => {
  hear(question('q1'))
  root()
    .querySelector('[data-focus="reason"]')
    .dispatchEvent(new KeyboardEvent('keydown', { key: 'a', bubbles: true }))
  assert.equal(sent.length, 1)
})

test('what ended on the server is put away, and another tab that was faster is no error', async () => {
  hear(question('q1'))
  hear({ id: 'q1', phase: 'closed' })
  assert.equal(shown(), false)
  answers = [{ error: { code: 'NOT_FOUND', message: 'answered already' } }]
  hear(question('q2'))
  press('a')
  await settled()
  assert.equal(shown(), false)
})

test('a question that is put aside comes back with the next one', () => {
  hear(question('q1'))
  press('Escape')
  assert.equal(shown(), false)
  hear(question('q2'))
  assert.match(root().querySelector('img').getAttribute('src'), /q1/)
})

test('a key that was meant for something else is no answer, and no button has the focus', async () => {
  vi.spyOn(performance, 'now').mockReturnValue(now)
  hear(question('q1'))
  press('r')
  await settled()
  assert.equal(sent.length, 1)
  assert.equal(document.activeElement, root())
})

test('what ended while the page was not connected goes, what came meanwhile stays', () => {
  hear(question('q1'))
  hear(question('q2'))
  replace([], ['q1'])
  assert.match(root().querySelector('img').getAttribute('src'), /q2/)
})

test('a key that is held down answers one image, not the next ones', async () => {
  answers = [{ open: 1 }]
  hear(question('q1', 2))
  press('a')
  await settled()
  press('a', { repeat: true })
  await settled()
  assert.equal(sent.length, 2)
  assert.equal(shown(), true)
})

test('a question that goes away says why, but not the one that was answered here', async () => {
  for (const why of ['', 'CANCELLED', 'NOBODY_ANSWERED', undefined]) {
    hear(question(`q ${why}`))
    hear({ id: `q ${why}`, phase: 'closed', why })
  }
  assert.deepEqual(noted, ['gone answered', 'gone cancelled', 'gone late', 'gone'])
  hear(question('q1'))
  press('a')
  hear({ id: 'q1', phase: 'closed', why: '' })
  await settled()
  assert.equal(noted.length, 4)
})

test('a page that has the question says so again when it is offered again', () => {
  hear(question('q1'))
  hear(question('q1'))
  assert.deepEqual(
    sent.map(({ seen }) => seen),
    [true, true]
  )
})
