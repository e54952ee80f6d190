// @vitest-environment happy-dom
import assert from 'node:assert/strict'
import { afterEach, beforeEach, test } from 'vitest'
import { open } from '../../js/lib/comfy/app.mjs'
import { patch } from '../../js/lib/dom.mjs'
import { chart } from '../../js/lib/history/chart.mjs'
import { noQuery, parameters, Rows } from '../../js/lib/history/rows.mjs'
import { readVerdict } from '../../js/lib/history/saved_file.mjs'
import { historyView } from '../../js/lib/history/view.mjs'
import { speak } from '../../js/lib/text.mjs'

/** Requests that wait until the test answers them. */
let asked = []
const api = {
  apiURL: (route) => route,
  fetchApi: (route) =>
    new Promise((resolve, reject) => {
      const json = (body, status = 200) => resolve(new Response(JSON.stringify(body), { status }))
      asked.push({ route, json, reject })
    })
}
const settled = () => new Promise((go) => setTimeout(go))
const row = (id, more = {}) => ({
  ...{ row: id, id: `e${id}`, outcome: 'passed', score: 0.9, cost: '0.10', seconds: 2 },
  ...{ created_at: 1, prompt: `prompt ${id}`, image: '', issue: '', failure: null },
  ...{ feedback: { rating: 'none', reason: '' }, ...more }
})

beforeEach(() => {
  asked = []
  open({}, api)
})
afterEach(() => open(null, null))

test('a slow answer never wins over a later question', async () => {
  const rows = new Rows(() => {})
  rows.ask({ ...noQuery(), search: 'old' })
  rows.ask({ ...noQuery(), search: 'new' })
  const [old, now] = asked
  now.json({ rows: [row(2)], next: null })
  await settled()
  old.json({ rows: [row(1)], next: 7 })
  await settled()
  assert.deepEqual([rows.rows.map(({ row: id }) => id), rows.complete], [[2], true])
})

test('a page that cannot be read does not end the list', async () => {
  const rows = new Rows(() => {})
  rows.ask(noQuery())
  asked[0].json({ rows: [row(1)], next: 1 })
  await settled()
  rows.more()
  asked[1].json({ error: { message: 'busy' } }, 500)
  await settled()
  assert.deepEqual([rows.trouble, rows.complete, rows.rows.length], ['busy', false, 1])
  rows.more()
  assert.match(asked[2].route, /before=1/)
  asked[2].json({ rows: [row(0)], next: null })
  await settled()
  assert.deepEqual([rows.trouble, rows.rows.length], ['', 2])
})

test('a page is asked for once, however often the list wants it', () => {
  const rows = new Rows(() => {})
  rows.ask(noQuery())
  rows.more()
  rows.more()
  assert.equal(asked.length, 1)
})

test('filters go to the server, whose files hold the same', () => {
  const query = { ...noQuery(), rating: 'bad', days: 7, workflow: 'w' }
  const now = Date.UTC(2026, 0, 10, 15)
  assert.deepEqual(parameters(query, now), {
    rating: 'bad',
    workflow: 'w',
    since: String(Date.UTC(2026, 0, 4) / 1000)
  })
  assert.deepEqual(parameters(noQuery()), {})
})

function shown(rows, query = noQuery(), more = {}) {
  const root = document.createElement('div')
  const list = { rows, trouble: '', reading: false, complete: true, ...more }
  const given = { list, query, workflow: 'w', totals: null, newer: false, first: 0, last: 9 }
  patch(root, historyView({ ...given, current: 0, busy: new Set() }, {}))
  return root
}

test('what is asked for stands in the fields', () => {
  const root = shown([], { ...noQuery(), search: 'lake', outcome: 'failed', days: 7 })
  assert.equal(root.querySelector('input').value, 'lake')
  const chosen = [...root.querySelectorAll('select')].map((each) => each.value)
  assert.deepEqual(chosen, ['failed', '', '7', '', ''])
  assert.ok(root.querySelector('[data-focus="clear"]'))
  assert.equal(shown([]).querySelector('[data-focus="clear"]'), null)
})

test('a row says why it did not pass, and what is under way can be collected', () => {
  const root = shown([
    row(3, { outcome: 'failed', issue: 'six fingers', prompt: 'a hand' }),
    row(2, { outcome: 'open', score: null }),
    row(1, { outcome: 'closed', id: null, failure: 'INVALID_IMAGE' })
  ])
  const [failed, under, closed] = [...root.querySelectorAll('.rf-list-item')]
  assert.match(failed.textContent, /a hand.*six fingers/)
  assert.match(under.textContent, /collect/)
  assert.match(closed.textContent, /INVALID_IMAGE/)
  assert.equal(root.querySelectorAll('[tabindex="0"]').length, 1, 'one stop for the Tab key')
})

test('a row of practice names no judge but the sandbox', () => {
  const texts = {
    panel: { practice: 'practice' },
    judge: { runflow: 'by Runflow', practice: 'by the sandbox' }
  }
  speak({ en: { runflow: texts } }, 'en')
  const judge = 'runflow'
  const root = shown([
    row(3, { judge, practice: true }),
    row(2, { judge }),
    row(1, { judge, outcome: 'closed' })
  ])
  const [practice, real, refused] = [...root.querySelectorAll('.rf-list-item')]
  assert.doesNotMatch(practice.textContent, /Runflow/)
  assert.match(practice.textContent, /practice/)
  assert.equal(practice.querySelector('.rf-quiet').title, 'by the sandbox')
  assert.match(real.textContent, /by Runflow/)
  assert.doesNotMatch(refused.textContent, /by Runflow/, 'and nobody judged what was refused')
  speak({}, 'en')
})

test('script in a prompt stays text', () => {
  const root = shown([row(1, { prompt: '<img src=x onerror=alert(1)>' })])
  assert.equal(root.querySelector('img'), null)
})

test('only what has a verdict counts as judged, in the words and in the bars, and there is a scale', () => {
  const history = {
    chart: '{judged} judged, {rate} %',
    today: '',
    day: '',
    scale_credits: '{n} cr'
  }
  speak({ en: { runflow: { history } } }, 'en')
  const root = document.createElement('div')
  const day = { date: '2026-01-01', evaluations: 10_051, judged: 4, passed: 3, credits: '1.5' }
  const limits = { evaluations: 9, credits: null }
  patch(root, chart({ days: [day], today: { evaluations: 0, credits: '0' }, limits }))
  assert.equal(root.querySelector('[role=img]').getAttribute('aria-label'), '4 judged, 75 %')
  assert.match(root.querySelector('.rf-bar-passed').getAttribute('style'), /height: ?75%/)
  assert.equal(root.querySelector('.rf-scale').textContent, '1.5 cr0')
})

/** A PNG of which only the chunks matter here, as Save Judged Images writes them. */
function png(...chunks) {
  const parts = [Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10)]
  for (const [kind, text] of chunks) {
    const body = new TextEncoder().encode(kind + text)
    const length = new DataView(new ArrayBuffer(4))
    length.setUint32(0, body.length - 4)
    parts.push(length.buffer, body, new ArrayBuffer(4))
  }
  return new Blob([...parts, new ArrayBuffer(0)])
}

test('a saved image says its verdict, and nothing else that is in it is believed', async () => {
  const record = {
    ...{ id: 'ev-1', verdict: 'failed', judge: 'runflow', score: 0.4, issues: ['six fingers', 7] },
    ...{ cost: '0.10', judged_image: 'ab'.repeat(32), prompt: 'a hand', practice: true }
  }
  const chunk = (said) => ['tEXt', `runflow_verdict\0${JSON.stringify(said)}`]
  const file = png(['IHDR', 'x'.repeat(13)], ['tEXt', 'prompt\0{}'], chunk(record), ['IEND', ''])
  const { item, prompt } = await readVerdict(file, 'as the file says')
  assert.deepEqual(
    [item.id, item.verdict, item.score, item.issues, item.notes, item.practice, prompt],
    ['ev-1', 'failed', 0.4, ['six fingers'], ['as the file says'], true, 'a hand']
  )
  assert.equal(item.image, 'ab'.repeat(32))
  const odd = await readVerdict(
    png(chunk({ verdict: 'passed', id: 5, score: 9, judged_image: '../x' })),
    ''
  )
  assert.deepEqual([odd.item.id, odd.item.score, odd.item.image], [null, null, ''])
  const cut = new Blob([await png(chunk(record)).slice(0, 60).arrayBuffer()])
  for (const silent of [
    png(['IEND', '']),
    png(chunk({ verdict: 'best' })),
    png(chunk(3)),
    cut,
    new Blob(['GIF89a'])
  ])
    assert.equal(await readVerdict(silent, ''), null)
})
