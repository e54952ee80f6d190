// @vitest-environment happy-dom
import assert from 'node:assert/strict'
import { beforeEach, test } from 'vitest'
import { patch } from '../../js/lib/dom.mjs'
import { ratingView } from '../../js/lib/insight/rating.mjs'
import { insightView, percent } from '../../js/lib/insight/view.mjs'
import { open } from '../../js/lib/comfy/app.mjs'
import { speak } from '../../js/lib/text.mjs'
import texts from '../../locales/en/main.json'

const share = (count, of, low = 0.1, high = 0.9) => ({
  count,
  of,
  share: of ? count / of : null,
  low,
  high
})
const group = (values, count, of) => ({
  ...{ values, judged: of, pass_rate: share(count, of), credits: '2', credits_per_kept: '0.5' },
  score: { mean: of ? 0.5 : null, low: of ? 0.4 : null, high: of ? 0.6 : null },
  ...{ attempts_per_kept: { value: count ? of / count : null }, enough: of >= 20 }
})
const rated = (changes) => ({
  ...{ judge: 'local', task: null, good: 20, bad: 8, missing: 12, finding: 'not_enough' },
  ...{ agreement: share(1, 2), wrong_passes: share(1, 2), wrong_rejections: share(1, 2) },
  ...{ proposal: null, ...changes }
})
const shown = {
  ...{ by: ['checkpoint'], settings: ['checkpoint', 'sampler'], enough: 20 },
  groups: [group(['<b>a</b>'], 30, 40), group([null], 1, 3)],
  whole: group([], 31, 43),
  days: [1, 2].map((n) => ({ date: `2026-11-0${n}`, judged: 20, pass_rate: share(n, 4) })),
  saved: { rejected: 12, preflight: 2, credits: '1.5' },
  agreement: [rated({})]
}
const query = { by: 'checkpoint', and: '', days: 0, wrong_pass: 1, wrong_rejection: 1 }
const acts = { ask() {}, refresh() {}, save() {}, rate() {} }

/** @param {any} view */
function drawn(view) {
  const root = document.createElement('div')
  patch(root, view)
  return root
}

beforeEach(() => {
  open({}, { apiURL: (route) => route })
  speak({ en: texts }, 'en')
})

test('a share is told with its interval', () => {
  assert.equal(percent(share(1, 2, 0.25, 0.75)), '50\u00a0% (25–75)')
  assert.equal(percent(share(0, 0)), '–')
})

test('groups, what the gate saved and too few ratings are said, and names stay text', () => {
  const root = drawn(insightView({ query, shown, trouble: '' }, acts))
  const text = root.textContent ?? ''
  for (const said of [
    '<b>a</b>',
    'unknown',
    'rejected 12 images',
    'not enough: 12 more',
    '1.3 attempts'
  ])
    assert.ok(text.includes(said), said)
  assert.equal(root.querySelectorAll('.rf-few').length, 2)
  assert.equal(root.querySelectorAll('b').length, 0)
  assert.ok(root.querySelector('polyline'))
})

test('two settings are a grid, with the values that were used most first', () => {
  const groups = [
    group(['a', 'euler'], 30, 40),
    group(['b', 'euler'], 1, 3),
    group(['b', null], 2, 30)
  ]
  const by = ['checkpoint', 'sampler']
  const root = drawn(insightView({ query, shown: { ...shown, by, groups }, trouble: '' }, acts))
  const cells = [...root.querySelectorAll('.rf-grid tr')].map((row) =>
    [...row.children].map((each) => each.firstChild?.textContent ?? '')
  )
  assert.deepEqual(cells, [
    ['', 'euler', 'unknown'],
    ['a', '75\u00a0%', '–'],
    ['b', '33\u00a0%', '7\u00a0%']
  ])
  assert.ok(root.textContent?.includes('mean score 0.50 (0.40–0.60)'))
})

test('a judge is called no better than chance, and a proposal says what it would have done', () => {
  const proposal = {
    min_score: 0.7,
    passed: 30,
    rejected: 12,
    wrong_passes: 2,
    wrong_rejections: 3
  }
  const agreement = [
    rated({ missing: 0, finding: 'no_better_than_chance' }),
    rated({ judge: 'runflow', missing: 0, finding: 'better_than_chance', proposal })
  ]
  const text =
    drawn(insightView({ query, shown: { ...shown, agreement }, trouble: '' }, acts)).textContent ??
    ''
  assert.ok(text.includes('no better than chance'))
  assert.ok(
    text.includes('min_score 0.7 would have passed 30 (2 wrongly) and rejected 12 (3 wrongly)')
  )
})

test('an empty journal and trouble are said', () => {
  const nothing = { ...shown, whole: group([], 0, 0), groups: [], days: [], agreement: [] }
  const text =
    drawn(insightView({ query, shown: nothing, trouble: 'no journal' }, acts)).textContent ?? ''
  assert.ok(text.includes('Nothing was judged yet') && text.includes('no journal'))
})

test('the verdict on an image is hidden until the person has said what they find', () => {
  const image = { row: 4, image: 'hash', prompt: 'a fox', task: '' }
  const state = { images: [image], at: 0, rated: 0, before: null, trouble: '' }
  const none = { rate() {}, skip() {}, back() {}, close() {} }
  assert.ok(!(drawn(ratingView(state, none)).textContent ?? '').includes('Passed'))
  const before = { good: false, said: [{ judge: 'local', passed: true, score: 0.9 }] }
  const after = drawn(ratingView({ ...state, at: 1, rated: 1, before }, none)).textContent ?? ''
  assert.ok(
    after.includes('You: bad. local: Passed 0.90, disagrees with you') &&
      after.includes('Rated now: 1')
  )
})
