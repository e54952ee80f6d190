/** The words on the page. They come from `locales/<language>/main.json`, which ComfyUI serves for every pack. */

/** @type {Record<string, any>} */
let words = {}
/** @type {Record<string, any>} */
let all = {}
export let language = 'en'
/** @type {Set<() => void>} */
const readers = new Set()

/**
 * Speak a language: the person's, else the one it is a variant of (zh for zh-TW), else English.
 * @param {Record<string, any> | null} answer what `/i18n` said; null: as it was
 * @param {string} wanted
 */
export function speak(answer, wanted) {
  all = answer ?? all
  const [base] = wanted.split('-')
  language = [wanted, base].find((each) => all[each]?.runflow) ?? 'en'
  words = all[language]?.runflow ?? {}
  for (const read of readers) read()
}

/** Called whenever the page is to speak anew. @param {() => void} read @returns {() => void} ends it */
export function onLanguage(read) {
  readers.add(read)
  return () => readers.delete(read)
}

/** @param {string} key */
const find = (key) => key.split('.').reduce((at, part) => at?.[part], /** @type {any} */ (words))

/** Whether there is a text of that name. @param {string} key */
export const has = (key) => typeof find(key) === 'string'

/**
 * The text of `key` (`panel.idle`) with its places filled in. Without texts (`/i18n` failed) the key's last part:
 * the page goes on, and says something.
 * @param {string} key
 * @param {Record<string, any>} [places]
 */
export function t(key, places = {}) {
  const found = find(key)
  if (typeof found !== 'string') {
    const said = Object.values(places).filter((each) => each !== '' && each !== null)
    return [key.slice(key.lastIndexOf('.') + 1).replaceAll('_', ' '), ...said].join(' ')
  }
  return found.replace(/\{(\w+)\}/g, (whole, name) => String(places[name] ?? whole))
}
