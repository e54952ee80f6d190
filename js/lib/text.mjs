/** The words on the page. They come from `locales/<language>/main.json`, which ComfyUI serves for every pack. */

let words = {}
export let language = 'en'

/** Speak the person's language, if `/i18n` has it, else English: every language that is there is complete. */
export function speak(answer, wanted) {
  language = answer[wanted]?.runflow ? wanted : 'en'
  words = answer[language].runflow
}

/** The text of `key` (`panel.idle`) with its places filled in; the key itself where there is none. */
export function t(key, places = {}) {
  const found = key.split('.').reduce((at, part) => at?.[part], words)
  if (typeof found !== 'string') return key
  return found.replace(/\{(\w+)\}/g, (whole, name) => places[name] ?? whole)
}
