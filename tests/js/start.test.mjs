// @vitest-environment node
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'
import { test } from 'vitest'

/** What a browser loads before ComfyUI's editor starts: the entry, and all that it imports statically. */
const MOST_BYTES = 25_000
const DEEPEST = 3
const IMPORTS = /^(?:import|export)\s[^'"]*?from '(\.[^']+)'/gm

/** Each file of the static import graph, with how deep it stands. */
function graph() {
  const found = new Map([[new URL('../../js/runflow.js', import.meta.url).href, 0]])
  for (const [file, depth] of found) {
    for (const [, path] of readFileSync(new URL(file), 'utf8').matchAll(IMPORTS)) {
      const { href } = new URL(path, file)
      if (!found.has(href) && existsSync(new URL(href))) found.set(href, depth + 1)
    }
  }
  return found
}

test('what is loaded at start is small and flat', () => {
  const found = graph()
  const sizes = [...found.keys()].map((file) => gzipSync(readFileSync(new URL(file))).length)
  assert.ok(found.size > 5)
  assert.ok(
    sizes.reduce((all, each) => all + each) <= MOST_BYTES,
    `${sizes.reduce((all, each) => all + each)} bytes`
  )
  assert.ok(Math.max(...found.values()) <= DEEPEST)
})

test('the start waits for nothing', () => {
  const entry = readFileSync(new URL('../../js/runflow.js', import.meta.url), 'utf8')
  assert.ok(!/async (init|setup)\(/.test(entry), 'init is not asynchronous')
  assert.ok(!/^await /m.test(entry), 'no await at the top')
})

test('nothing of the pack is kept in the browser, and no private name of the editor stands outside compat', () => {
  const files = ['view/node_panels', 'view/popover', 'state/events', 'state/store', 'server']
  for (const file of files) {
    const text = readFileSync(new URL(`../../js/lib/${file}.mjs`, import.meta.url), 'utf8')
    assert.ok(!/localStorage|sessionStorage/.test(text), file)
    assert.ok(!/__vue|\$\$node|dark-theme|data-node-id/.test(text), file)
  }
})
