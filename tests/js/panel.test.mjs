// @vitest-environment happy-dom
import assert from 'node:assert/strict'
import { beforeEach, test } from 'vitest'
import { open } from '../../js/lib/comfy/app.mjs'
import { patch } from '../../js/lib/dom.mjs'
import { factsOf, COPIES } from '../../js/lib/view/facts.mjs'
import { panelView, outcomeOf, spoken } from '../../js/lib/view/panel.mjs'
import { contrast, palette } from '../../js/lib/view/theme.mjs'
import { changes } from '../../js/lib/view/word_diff.mjs'
import { cleanLoop, clean, summary } from '../../js/lib/state/verdicts.mjs'
import { speak } from '../../js/lib/text.mjs'
import texts from '../../locales/en/main.json'

const verdict = (outcome, score, more = {}) => ({
  id: 'e',
  image: '',
  judge: 'runflow',
  verdict: outcome,
  score,
  issues: [],
  cost: '0.10',
  seconds: 2,
  ...more
})
const done = (verdicts, more = {}) => ({
  phase: 'done',
  at: Date.now() / 1000,
  code: '',
  message: '',
  numbers: {},
  min_score: 0,
  verdicts,
  loop: null,
  ...more
})
const given = (state, more = {}) => ({
  size: 'whole',
  state,
  outdated: false,
  plan: null,
  usual: null,
  trouble: '',
  selected: 0,
  picked: '',
  now: Date.now(),
  ...more
})
const acts = { open() {}, choose() {}, cancel() {}, mend() {} }
const say = (shown) => {
  const root = document.createElement('div')
  patch(root, panelView(shown, acts))
  return root
}

beforeEach(() => {
  speak({ en: texts }, 'en')
  open({}, { apiURL: (route) => route })
})

test('the outcome of a batch, its lowest score, what it cost', () => {
  const root = say(
    given(done([verdict('passed', 0.9), verdict('failed', 0.4, { issues: ['six fingers'] })]))
  )
  const text = root.textContent
  for (const wanted of ['1 of 2 passed', '0.40', 'lowest of 2', 'six fingers', '0.20 credits'])
    assert.ok(text.includes(wanted), text)
  assert.equal(root.querySelectorAll('[role=option]').length, 2)
})

test('beside what was spent, a sum says that it is the next Run’s', () => {
  const foot = (plan) =>
    say(given(done([verdict('passed', 0.9)]), { plan })).querySelector('.rf-next').textContent
  const plan = { judge: 'runflow', warns: false, remedy: '', values: {} }
  const paid = { ...plan, text: 'plan.price_images', values: { most: '0.30', n: 3 } }
  assert.equal(foot(paid), 'Next Run: 0.30 credits for 3 images')
  const { local, no_output: unread } = texts.runflow.plan
  assert.equal(foot({ ...plan, judge: 'local', text: 'plan.local' }), local)
  assert.equal(foot({ ...plan, warns: true, text: 'plan.no_output' }), unread)
})

test('at most three issues are said, of very long ones only the beginning is seen', () => {
  const issues = ['a', 'b', 'c', 'd'].map((each) => each.repeat(2000))
  assert.equal(
    say(given(done([verdict('failed', 0.1, { issues })]))).querySelectorAll('li').length,
    3
  )
})

test('how it was judged is said apart from what is wrong, of a batch once', () => {
  const notes = ['sent as JPEG, quality 90']
  const failed = { issues: ['a', 'b', 'c', 'd'], notes }
  const root = say(given(done([verdict('failed', 0.1, failed)])))
  assert.equal(root.querySelector('.rf-note').textContent, notes[0])
  assert.equal(root.querySelectorAll('li').length, 2)
  const batch = say(
    given(done([verdict('failed', 0.1, failed), verdict('passed', 0.9, { notes })]))
  )
  assert.equal(batch.querySelector('.rf-facts').textContent.split(notes[0]).length, 2)
  const line = say(
    given(done([verdict('passed', 0.9, { notes, strengths: ['sharp'] })]), { size: 'line' })
  )
  assert.ok(line.textContent.includes(notes[0]))
  assert.ok(COPIES.Text(clean([verdict('failed', 0.1, failed)])[0], null).includes(notes[0]))
})

test('the bar has a tick at the score that is needed', () => {
  const root = say(given(done([verdict('failed', 0.5)], { min_score: 0.8 })))
  assert.equal(root.querySelector('.rf-tick').getAttribute('style'), 'left:80%')
  assert.equal(
    root.querySelector('[role=meter]').getAttribute('aria-valuetext'),
    '0.50, at least 0.80 is needed'
  )
})

test('waiting says for how long, how long is usual, and can be cancelled', () => {
  const state = done([], {
    phase: 'waiting',
    code: 'judging',
    numbers: { elapsed: 4, judged: 1, of: 3 },
    received: Date.now()
  })
  const text = say(given(state, { usual: { p50: 8, p90: 21 } })).textContent
  for (const wanted of ['Judging', '1 of 3 judged', '4.0', 'usually 8.0', '21', 'Cancel'])
    assert.ok(text.includes(wanted), text)
})

test('what stopped says so, whatever the page was told in the meantime', () => {
  const stopped = done([], { phase: 'stopped', code: 'CANCELLED' })
  assert.equal(outcomeOf(given(stopped)), 'stopped')
  assert.ok(say(given(stopped)).textContent.includes('Cancelled'))
})

test('a remedy is a button', () => {
  const plan = {
    runs: false,
    warns: true,
    text: 'plan.no_output',
    values: {},
    remedy: 'show',
    judge: ''
  }
  const pressed = []
  const root = document.createElement('div')
  patch(
    root,
    panelView(given(null, { size: 'line', plan }), { ...acts, mend: (name) => pressed.push(name) })
  )
  root.querySelector('button').click()
  assert.deepEqual(pressed, ['show'])
})

test('a verdict about something else says so', () => {
  assert.ok(
    say(given(done([verdict('passed', 1)]), { outdated: true })).textContent.includes('out of date')
  )
})

test('a screen reader is told the outcome, not every second', () => {
  const waits = (elapsed) =>
    given(done([], { phase: 'waiting', code: 'judging', numbers: { elapsed } }))
  assert.equal(spoken(waits(1)), spoken(waits(2)))
})

test('what others sent is made safe, whatever it is', () => {
  assert.deepEqual(
    clean([null, 3, { verdict: 'great', score: 'x', issues: [1, 'a'], judges: [{}] }]).map(
      ({ verdict: v, score, issues }) => [v, score, issues]
    ),
    [['unknown', null, ['a']]]
  )
  assert.equal(summary([]).outcome, 'unknown')
  assert.equal(cleanLoop({ attempts: [] }), null)
  assert.equal(cleanLoop({ attempts: [{ seed: 1e300 }], winner: 9 }).winner.seed, '0')
})

test('each fact is said once, under the judge who says it', () => {
  const [made] = clean([verdict('failed', 0.1, { issues: ['Six fingers.', 'the cup floats'] })])
  const judges = [
    {
      name: 'anatomy',
      passed: false,
      reasoning: '',
      issues: [{ kind: '', detail: 'six fingers' }],
      evidence: []
    }
  ]
  const facts = factsOf(made, { judges, gates: [] })
  assert.deepEqual(facts, [
    { name: '', lines: ['the cup floats'] },
    { name: 'anatomy', lines: ['six fingers'] }
  ])
  assert.ok(COPIES.Markdown(made, { judges, gates: [] }).includes('- six fingers'))
  assert.equal(JSON.parse(COPIES.JSON(made, null)).verdict, 'failed')
})

test('an issue that says more than a judge does is not lost', () => {
  const issues = ['the whiskers are blurred', 'sharpness: blurred', 'anatomy: six fingers']
  const [made] = clean([verdict('failed', 0.1, { issues })])
  const judges = [
    {
      name: 'sharpness',
      passed: false,
      reasoning: '',
      issues: [{ detail: 'blurred' }],
      evidence: []
    },
    {
      name: 'anatomy',
      passed: false,
      reasoning: '',
      issues: [{ kind: 'hand', detail: 'six fingers' }]
    }
  ]
  assert.deepEqual(factsOf(made, { judges, gates: [] }), [
    { name: '', lines: ['the whiskers are blurred'] },
    { name: 'sharpness', lines: ['blurred'] },
    { name: 'anatomy', lines: ['hand: six fingers'] }
  ])
})

test('what changed in a prompt, word by word', () => {
  assert.deepEqual(changes('a cup on a table', 'a red cup on a table'), [
    ['same', 'a'],
    ['ins', ' red'],
    ['same', ' cup on a table']
  ])
  assert.deepEqual(changes('a lake, at dusk', 'a lake, at dusk, vivid'), [
    ['same', 'a lake, at dusk'],
    ['ins', ', vivid']
  ])
})

test.each([
  ['dark', [34, 34, 34], [221, 221, 221]],
  ['light', [201, 201, 201], [34, 34, 34]],
  ['solarized', [0, 43, 54], [131, 148, 150]],
  ['nord', [59, 66, 82], [216, 222, 233]],
  ['arc', [46, 57, 72], [188, 199, 212]],
  ['github', [22, 27, 34], [139, 148, 158]],
  ['grey', [128, 128, 128], [128, 128, 128]]
])('in %s every text can be read, and every border seen', (_name, ground, wanted) => {
  const colours = palette(ground, wanted)
  for (const name of ['text', 'quiet', 'passed', 'failed', 'unknown', 'accent']) {
    for (const below of [colours.ground, colours.raised])
      assert.ok(contrast(colours[name], below) >= 4.5, `${name} ${contrast(colours[name], below)}`)
  }
  for (const name of ['passed', 'failed', 'unknown', 'accent'])
    assert.ok(contrast(colours[`on-${name}`], colours[name]) >= 4.5, `on ${name}`)
  assert.ok(contrast(colours.line, colours.ground) >= 3)
})
