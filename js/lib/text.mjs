/** The words on the page. They come from `locales/<language>/main.json`, which ComfyUI serves for every pack. */

let words = {}

/** Use these texts: nested objects of strings with `{name}` places. */
export function use(texts) {
  words = texts ?? {}
}

/** The text of `key` (`panel.idle`) with its places filled in; the key itself where there is none. */
export function t(key, places = {}) {
  const found = key.split('.').reduce((at, part) => at?.[part], words)
  if (typeof found !== 'string') return key
  return found.replace(/\{(\w+)\}/g, (whole, name) => (name in places ? String(places[name]) : whole))
}

/** The pack's texts out of what `/i18n` answers: English, overlaid with the person's language. */
export function chosen(answer, language) {
  return overlaid(answer?.en?.runflow ?? {}, answer?.[language]?.runflow ?? {})
}

function overlaid(below, above) {
  const result = { ...below }
  for (const [key, value] of Object.entries(above)) {
    result[key] = value && typeof value === 'object' ? overlaid(below[key] ?? {}, value) : value
  }
  return result
}
