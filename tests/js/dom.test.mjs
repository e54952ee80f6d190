// @vitest-environment happy-dom
import assert from 'node:assert/strict'
import { beforeEach, test } from 'vitest'
import { button, create, element, patch } from '../../js/lib/dom.mjs'

let root
beforeEach(() => {
  root = document.createElement('div')
  document.body.replaceChildren(root)
})

test('text stays text, whatever it holds', () => {
  patch(root, element('p', { title: '"><b>' }, '<img src=x onerror=alert(1)>'))
  assert.equal(root.querySelector('img'), null)
  assert.equal(root.textContent, '<img src=x onerror=alert(1)>')
})

test('an element that is described alike is the same element afterwards', () => {
  patch(root, element('p', {}, 'one'), element('p', {}, 'two'))
  const [first, second] = root.children
  patch(root, element('p', { class: 'new' }, 'one'), element('p', {}, 'three'))
  assert.deepEqual([...root.children], [first, second])
  assert.equal(first.className, 'new')
  assert.equal(second.textContent, 'three')
})

test('keys move elements and keep what they hold', () => {
  const list = (...keys) => keys.map((key) => element('input', { key }))
  patch(root, list('a', 'b', 'c'))
  const [a, b, c] = root.children
  b.value = 'typed'
  patch(root, list('c', 'b'))
  assert.deepEqual([...root.children], [c, b])
  assert.equal(b.value, 'typed')
  patch(root, list('a', 'b'))
  assert.notEqual(root.children[0], a)
})

test('what a person typed or opened survives a description that did not change', () => {
  const view = (text) => [element('input', { value: 'offered' }), element('details', {}, text)]
  patch(root, view('one'))
  root.children[0].value = 'typed'
  root.children[1].open = true
  patch(root, view('two'))
  assert.equal(root.children[0].value, 'typed')
  assert.equal(root.children[1].open, true)
  assert.equal(root.children[1].textContent, 'two')
})

test('the newest listener is called, once', () => {
  const heard = []
  patch(
    root,
    button('a', () => heard.push(1))
  )
  patch(
    root,
    button('a', () => heard.push(2))
  )
  root.firstChild.click()
  assert.deepEqual(heard, [2])
})

test('the focus goes to what has the name of what is gone', () => {
  patch(
    root,
    element(
      'form',
      {},
      button('Send', () => {}, { 'data-focus': 'x' })
    )
  )
  root.querySelector('button').focus()
  patch(
    root,
    element(
      'p',
      {},
      button('Thumb', () => {}, { 'data-focus': 'x' })
    )
  )
  assert.equal(document.activeElement.textContent, 'Thumb')
})

test('attributes that are no longer described are taken away', () => {
  patch(root, element('p', { hidden: true, title: 'a', 'data-x': 1 }))
  patch(root, element('p', { hidden: false }))
  assert.deepEqual(root.firstChild.getAttributeNames(), [])
})

test('descriptions hold children in lists of lists, and leave empty ones out', () => {
  const made = create(element('p', {}, ['a', [false, null, [element('b', {}, 0)]]], ''))
  assert.equal(made.innerHTML, 'a<b>0</b>')
})
