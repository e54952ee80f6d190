import assert from 'node:assert/strict'
import { afterEach, beforeEach, test, vi } from 'vitest'
import { open } from '../../js/lib/comfy/app.mjs'
import { onStatus, status } from '../../js/lib/server.mjs'

/** What the server answers, one after the other; an Error is no answer. */
let answers = []
let asked = 0
const api = {
  fetchApi: async () => {
    asked += 1
    const next = answers.shift()
    if (next instanceof Error) throw next
    return new Response(JSON.stringify(next))
  }
}
const judgedBy = (judge, prices) => ({ judge, prices, limit: 100, usual: null })

beforeEach(() => {
  vi.useFakeTimers()
  open({}, api)
})
afterEach(() => {
  vi.useRealTimers()
  open(null, null)
})

test('who judges and what it costs is asked for until the price is known, sooner at first', async () => {
  onStatus(status)
  const priced = judgedBy('runflow', { standard: '0.10' })
  answers = [new Error('the server starts'), judgedBy('runflow', {}), new Error('again'), priced]
  assert.equal(await status(), null)
  await vi.advanceTimersByTimeAsync(1_900)
  assert.equal(asked, 1)
  await vi.advanceTimersByTimeAsync(200)
  assert.deepEqual([asked, (await status()).prices], [2, {}])
  await vi.advanceTimersByTimeAsync(3_800)
  assert.equal(asked, 2)
  await vi.advanceTimersByTimeAsync(8_200)
  assert.deepEqual([asked, await status()], [4, priced])
  await vi.advanceTimersByTimeAsync(600_000)
  assert.equal(asked, 4)
})
