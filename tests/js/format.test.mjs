import assert from 'node:assert/strict'
import { test } from 'vitest'
import { ago, judgedBy, score, seconds, sum } from '../../js/lib/format.mjs'
import { speak, t } from '../../js/lib/text.mjs'

test('credits are added exactly', () => {
  assert.equal(sum(Array(3).fill('0.10')), '0.30')
  assert.equal(sum(Array(20).fill('1')), '20')
  assert.equal(sum(['free', 'free']), '')
  assert.equal(sum(['0.1', '0.2', '', null, 'x']), '0.3')
  assert.equal(sum([]), '')
})

test('numbers read as people write them', () => {
  assert.equal(score(0.9), '0.90')
  assert.equal(score(null), '–')
  assert.equal(seconds(3.14), '3.1\u00a0s')
  assert.equal(seconds(31.4), '31\u00a0s')
})

test('texts and times are in the person’s language, where there is one, else in English', () => {
  const answer = {
    en: { runflow: { a: { b: 'x {n}' } } },
    de: { runflow: { a: { b: 'z {n}' } } },
    fr: { theirs: {} }
  }
  speak(answer, 'de')
  assert.equal(t('a.b', { n: 3 }), 'z 3')
  assert.equal(t('a.b', { n: 0 }), 'z 0')
  assert.match(ago(0, 7200_000), /vor 2 Std/)
  speak(answer, 'de-AT')
  assert.equal(t('a.b'), 'z {n}', 'a variant falls back to its language')
  for (const missing of ['fr', 'pt-BR']) {
    speak(answer, missing)
    assert.equal(t('a.b'), 'x {n}')
    assert.match(ago(0, 7200_000), /2 hr?\.? ago/)
  }
})

test('a model is named with where it is, the other judges by what they are', () => {
  const judge = {
    model: 'a model',
    model_named: '{name} here',
    model_at: '{name} at {host}',
    person: 'you'
  }
  speak({ en: { runflow: { judge } } }, 'en')
  const model = (judged_by) => judgedBy({ judge: 'model', judged_by })
  assert.equal(model('llava:7b on this machine'), 'llava:7b here')
  assert.equal(model('llava:7b at models.example.org'), 'llava:7b at models.example.org')
  assert.equal(model(''), 'a model')
  assert.equal(judgedBy({ judge: 'person', judged_by: 'you' }), 'you')
  assert.equal(judgedBy({ judge: 'of a later version' }), '')
})
