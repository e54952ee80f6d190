/** The one live region of the page: what a screen reader is told while something runs. */

/** @type {HTMLElement | null} */
let region = null

/** @param {string} text */
export function say(text) {
  region ??= build()
  if (region.textContent !== text) region.textContent = text
}

function build() {
  const made = document.createElement('div')
  made.className = 'rf-hidden'
  made.setAttribute('role', 'status')
  made.setAttribute('aria-live', 'polite')
  document.body.append(made)
  return made
}
