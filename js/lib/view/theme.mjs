/**
 * The pack's colours, worked out from the palette that is in force: whichever it is, text has a contrast of 4.5:1 or
 * more with what is below it, and borders 3:1. No class name of the frontend is asked.
 */

/** @typedef {[number, number, number]} Rgb */

const TEXT = 4.5
const BORDER = 3
/** Hue and saturation. */
const OUTCOMES = { passed: [145, 0.65], failed: [4, 0.75], unknown: [38, 0.85], accent: [215, 0.8] }
/** @type {Rgb} */
const WHITE = [255, 255, 255]
/** @type {Rgb} */
const BLACK = [0, 0, 0]
const PLACES = [
  ['.rf-panel,.rf-inspector', '--comfy-input-bg', '--input-text', [34, 34, 34]],
  ['.rf-page', '--comfy-menu-bg', '--fg-color', [53, 53, 53]]
]
const LIGHT = 0.4
const SETTLES_MS = 60

const sheet = new CSSStyleSheet()

/** Colour the pack's elements, and again whenever the palette changes. */
export function followPalette() {
  document.adoptedStyleSheets.push(sheet)
  paint()
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let later
  const watcher = new MutationObserver(() => {
    clearTimeout(later)
    later = setTimeout(paint, SETTLES_MS)
  })
  const looks = { attributes: true, attributeFilter: ['style', 'class', 'data-theme'] }
  for (const root of [document.documentElement, document.body]) watcher.observe(root, looks)
}

function paint() {
  const style = getComputedStyle(document.body)
  const rules = PLACES.map(([selector, ground, text, otherwise]) => {
    const own = /** @type {Rgb} */ (colour(style.getPropertyValue(String(ground))) ?? otherwise)
    const below = luminance(own) > LIGHT ? mix(WHITE, own, 0.6) : own // light palettes have grey inputs
    const wanted = colour(style.getPropertyValue(String(text))) ?? best(below)
    const tokens = Object.entries(palette(below, wanted))
    return `${selector}{${tokens.map(([name, rgb]) => `--rf-${name}:rgb(${rgb})`).join(';')}}`
  })
  const text = rules.join('\n')
  if (text === painted) return
  painted = text
  sheet.replaceSync(text)
}
let painted = ''

/** The colours on a ground. @param {Rgb} ground @param {Rgb} wanted the palette's own text colour */
export function palette(ground, wanted) {
  const text = readable(wanted, [ground], 7)
  const lifted = mix(text, ground, 0.09)
  const raised = contrast(text, lifted) >= TEXT ? lifted : ground
  const grounds = [ground, raised]
  /** @type {Record<string, Rgb>} */
  const found = {
    ground,
    raised,
    text,
    quiet: readable(mix(text, ground, 0.75), grounds, TEXT),
    line: readable(mix(text, ground, 0.3), [ground], BORDER),
    faint: mix(text, ground, 0.2)
  }
  for (const [name, [hue, saturation]] of Object.entries(OUTCOMES)) {
    found[name] = readable(hsl(hue, saturation, 0.5), grounds, TEXT)
    found[`on-${name}`] = best(found[name])
  }
  return found
}

/** The colour, moved to black or to white until it can be read on every one of the grounds. */
/** @param {Rgb} wanted @param {Rgb[]} grounds @param {number} least */
function readable(wanted, grounds, least) {
  const end = best(grounds[0])
  for (let share = 0; share < 1; share += 0.04) {
    const tried = mix(end, wanted, share)
    if (grounds.every((ground) => contrast(tried, ground) >= least)) return tried
  }
  return end
}

/** Black or white, whichever is better read on it. @param {Rgb} ground */
const best = (ground) => (contrast(WHITE, ground) >= contrast(BLACK, ground) ? WHITE : BLACK)

/** @param {Rgb} a @param {Rgb} b @param {number} share of a @returns {Rgb} */
function mix(a, b, share) {
  return /** @type {Rgb} */ (
    a.map((each, index) => Math.round(each * share + b[index] * (1 - share)))
  )
}

/** As WCAG 2 defines it. @param {Rgb} a @param {Rgb} b */
export function contrast(a, b) {
  const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x)
  return (high + 0.05) / (low + 0.05)
}

/** @param {Rgb} rgb */
function luminance(rgb) {
  const [r, g, b] = rgb.map((each) =>
    each / 255 <= 0.04045 ? each / 255 / 12.92 : ((each / 255 + 0.055) / 1.055) ** 2.4
  )
  return 0.2126 * r + 0.7152 * g + 0.0722 * b
}

/** @param {number} hue @param {number} saturation @param {number} lightness @returns {Rgb} */
function hsl(hue, saturation, lightness) {
  const reach = saturation * Math.min(lightness, 1 - lightness)
  const part = (/** @type {number} */ n) => {
    const k = (n + hue / 30) % 12
    return Math.round(255 * (lightness - reach * Math.max(-1, Math.min(k - 3, 9 - k, 1))))
  }
  return [part(0), part(8), part(4)]
}

/** @type {CanvasRenderingContext2D | null} */
let canvas = null

/** What a CSS colour is, on black; null for none. @param {string} css @returns {Rgb | null} */
function colour(css) {
  if (!css.trim() || !CSS.supports('color', css.trim())) return null
  canvas ??= document.createElement('canvas').getContext('2d', { willReadFrequently: true })
  if (!canvas) return null
  canvas.clearRect(0, 0, 1, 1)
  canvas.fillStyle = css.trim()
  canvas.fillRect(0, 0, 1, 1)
  const [r, g, b, alpha] = canvas.getImageData(0, 0, 1, 1).data
  return alpha < 128 ? null : [r, g, b]
}
