import assert from 'node:assert/strict'
import { test } from 'vitest'
import { Store, shownOf } from '../../js/lib/state/store.mjs'

let at = 0
const state = (more = {}) => ({
  workflow: 'w',
  prompt: 'p',
  node: '2',
  phase: 'done',
  identity: 'i',
  made_from: 'm',
  at: ++at,
  code: '',
  message: '',
  numbers: {},
  min_score: 0,
  verdicts: [],
  loop: null,
  ...more
})
const here = () => true
const shown = (store, madeFrom, isHere = here) =>
  shownOf(store.of('w', '2'), () => madeFrom, isHere)

test('a verdict is shown for what was judged, and otherwise is out of date', () => {
  const store = new Store()
  store.put([
    state({ identity: 'one', made_from: 'a' }),
    state({ identity: 'two', made_from: 'b' })
  ])
  assert.equal(shown(store, 'b').state.identity, 'two')
  assert.deepEqual([shown(store, 'a').state.identity, shown(store, 'a').outdated], ['one', false])
  assert.deepEqual([shown(store, 'c').state.identity, shown(store, 'c').outdated], ['two', true])
})

test('a verdict that no page queued is out of date until a page says what it is made from', () => {
  const store = new Store()
  store.put([state({ made_from: '' })])
  assert.equal(shown(store, 'm').outdated, true)
  store.put([state({ made_from: 'm' })])
  assert.equal(shown(store, 'm').outdated, false)
})

test('what was queued in another tab of the same file is not shown', () => {
  const store = new Store()
  store.put([state({ prompt: 'mine', identity: 'a' }), state({ prompt: 'copy', identity: 'b' })])
  assert.equal(shown(store, 'm', (prompt) => prompt !== 'copy').state.prompt, 'mine')
})

test('what another tab queued is shown where it is about just this, and nothing else is', () => {
  const store = new Store()
  store.put([state({ prompt: 'copy' })])
  const elsewhere = (prompt) => prompt !== 'copy'
  assert.deepEqual(shown(store, 'm', elsewhere).state.prompt, 'copy')
  assert.equal(shown(store, 'other', elsewhere).state, null)
})

test('waiting ends with what comes next, and with the end of its prompt', () => {
  const store = new Store()
  store.put([state({ phase: 'waiting' })])
  assert.equal(shown(store, 'm').state.phase, 'waiting')
  store.put([state({ phase: 'done', identity: 'j' })])
  assert.deepEqual(
    store.of('w', '2').map(({ phase }) => phase),
    ['done']
  )
  store.put([state({ phase: 'waiting', prompt: 'q' })])
  store.ended('q')
  assert.equal(shown(store, 'm').state.phase, 'done')
})

test('what waits and is not known to a server that was restarted says so', () => {
  const store = new Store()
  store.put([state({ phase: 'waiting', prompt: 'lost' })])
  store.replace('w', [], store.waitingIn('w'))
  const { phase, code } = shown(store, 'm').state
  assert.deepEqual([phase, code], ['stopped', 'RESTARTED'])
  store.put([state({ phase: 'waiting', prompt: 'ended' })])
  store.replace('w', [state({ prompt: 'ended', identity: 'new' })], store.waitingIn('w'))
  assert.equal(shown(store, 'm').state.phase, 'done')
})

test('what was queued while the server was asked waits, whatever the answer does not know', () => {
  const store = new Store()
  const waited = store.waitingIn('w')
  store.put([state({ phase: 'waiting', prompt: 'queued meanwhile' })])
  store.replace('w', [], waited)
  assert.equal(shown(store, 'm').state.phase, 'waiting')
})

test('an answer that is older than the end of a prompt leaves nothing waiting', () => {
  const store = new Store()
  store.ended('over')
  store.put([state({ phase: 'waiting', prompt: 'over' })])
  assert.equal(shown(store, 'm').state, null)
})

test('an error stays until something else is known of the same node', () => {
  const store = new Store()
  store.put([state({ phase: 'stopped', code: 'TIMEOUT' })])
  assert.equal(shown(store, 'm').state.code, 'TIMEOUT')
  assert.equal(shown(store, 'changed').state, null, 'it is about what was there')
  store.put([state({ phase: 'done', identity: 'k' })])
  assert.equal(store.of('w', '2').length, 1)
})

test('readers are told which workflow changed', () => {
  const store = new Store()
  const heard = []
  store.subscribe((workflow) => heard.push(workflow))
  store.put([state(), state({ workflow: 'v' })])
  assert.deepEqual(heard, ['w', 'v'])
})
