// @vitest-environment node
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { test } from 'vitest'

const ROOT = new URL('../../', import.meta.url)
/** Calls that take a text's key: t('…'), and what passes it on. */
const KEYS = /\b(?:t|say|warn)\(\s*'([\w.]+)'/g

const words = JSON.parse(readFileSync(new URL('locales/en/main.json', ROOT), 'utf8')).runflow

test('every text that the code asks for is there', () => {
  const files = readdirSync(new URL('js/lib/', ROOT), { recursive: true }).map(String)
  const asked = files
    .filter((name) => name.endsWith('.mjs'))
    .flatMap((name) => [...readFileSync(new URL(`js/lib/${name}`, ROOT), 'utf8').matchAll(KEYS)])
    .map(([, key]) => key)
  assert.ok(asked.length > 60)
  for (const key of asked) {
    const found = key.split('.').reduce((at, part) => at?.[part], words)
    assert.equal(typeof found, 'string', key)
  }
})

test('every text of a plan is there, also for what is paid anew', () => {
  const asked = ['price_loop', 'price_loop_each', 'price_open', 'no_price', 'show']
  const keys = asked.flatMap((each) => [each, `${each}_anew`])
  for (const key of [
    ...keys,
    'muted',
    'bypassed',
    'host_off',
    'no_image',
    'connect',
    'no_output'
  ]) {
    assert.equal(typeof words.plan[key], 'string', key)
  }
})
