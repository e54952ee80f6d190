// @vitest-environment happy-dom
import { test } from 'vitest'
import assert from 'node:assert/strict'
import { showHeaderBadges } from '../../js/lib/view/header_badges.mjs'

test('badges are rules of one sheet, and their text cannot end it', () => {
  showHeaderBadges([])
  assert.equal(document.querySelectorAll('style').length, 0, 'nothing is added where there is none')
  showHeaderBadges([{ id: 3, text: '✕ "0.41"}</style><b>\\', color: '#9b1c1c' }])
  const [sheet] = document.querySelectorAll('style')
  assert.match(sheet.textContent, /content:"✕ \\22 0\.41\\22 \}\\3c \/style>\\3c b>\\5c "/)
  assert.match(sheet.textContent, /\[data-testid="node-header-3"\]::after/)
  showHeaderBadges([])
  assert.equal(sheet.textContent, '')
  assert.equal(document.querySelectorAll('style').length, 1)
})
