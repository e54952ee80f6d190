import assert from 'node:assert/strict'
import { test } from 'vitest'
import { hashOf } from '../../js/lib/state/made_from.mjs'

test('hashes tell apart what differs, and are equal where nothing does', () => {
  const seen = new Set()
  for (let n = 0; n < 20_000; n++) seen.add(hashOf(['KSampler', [['seed', n]], []]))
  assert.equal(seen.size, 20_000)
  assert.equal(hashOf({ a: [1, 'x'] }), hashOf({ a: [1, 'x'] }))
})

test('a widget that holds itself stops nothing', () => {
  const own = {}
  own.own = own
  assert.equal(typeof hashOf(own), 'string')
})
