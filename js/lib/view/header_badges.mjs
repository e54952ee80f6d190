/**
 * Badges above nodes that are drawn as elements, in the same place as on the canvas. They are rules of a style sheet:
 * the editor makes its nodes' elements anew whenever it likes, and nothing has to be put into them again.
 */
import { headerOf } from '../comfy/compat.mjs'

/** @type {HTMLStyleElement | null} */
let sheet = null

/** @param {{id: string | number, text: string, color: string}[]} badges of the nodes of the open graph */
export function showHeaderBadges(badges) {
  const rules = badges.map(rule).join('\n')
  if (!sheet && !rules) return
  if (!sheet) {
    sheet = document.createElement('style')
    document.head.append(sheet)
  }
  if (sheet.textContent !== rules) sheet.textContent = rules
}

/** @param {{id: string | number, text: string, color: string}} badge */
function rule({ id, text, color }) {
  const header = headerOf(id)
  return `${header}{position:relative}
${header}::after{background:${color};border-radius:5px;bottom:calc(100% + 4px);color:#fff;content:"${quoted(text)}";\
font:12px/20px sans-serif;padding:0 6px;position:absolute;right:0;white-space:nowrap}`
}

/** As text of CSS. @param {string} text */
const quoted = (text) =>
  text.replace(/["\\<\n\r\f]/g, (each) => `\\${each.charCodeAt(0).toString(16)} `)
