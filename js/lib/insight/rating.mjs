/**
 * Many images, one after the other, large: 1 is good, 2 is bad. What a judge said of an image is shown only after the
 * person has said what they find, so that nobody is led.
 */
import { button, element, keepInside, patch } from '../dom.mjs'
import { post, request, thumbnail } from '../server.mjs'
import { t } from '../text.mjs'
import { score } from '../format.mjs'

/**
 * @typedef {{row: number, image: string, prompt: string, task: string}} Image
 * @typedef {{judge: string, passed: boolean, score: number | null}} Said
 * @typedef {{images: Image[], at: number, rated: number, before: {good: boolean, said: Said[]} | null,
 *   trouble: string, isRead?: boolean}} State `isRead`: whether it is known which images wait
 * @typedef {{rate: (good: boolean) => void, skip: () => void, back: () => void, close: () => void}} Acts
 */

/** @param {() => void} done called when the person has closed it */
export async function rateImages(done) {
  /** @type {State} */
  const state = { images: [], at: 0, rated: 0, before: null, trouble: '', isRead: false }
  const root = dialog()
  const draw = () => {
    patch(root, ratingView(state, acts))
    load(state.images[state.at + 1])
    if (!root.contains(document.activeElement)) root.focus() // the buttons have gone with the last image
  }
  let busy = false

  const acts = {
    /** @param {boolean} good */
    async rate(good) {
      const image = state.images[state.at]
      if (!image || busy) return
      busy = true
      try {
        const { verdicts } = await post('insight/rate', { row: image.row, good })
        Object.assign(state, { before: { good, said: verdicts }, trouble: '' })
        state.at += 1
        state.rated += 1
      } catch (error) {
        state.trouble = /** @type {Error} */ (error).message
      }
      busy = false
      draw()
    },
    skip() {
      Object.assign(state, { before: null, at: Math.min(state.at + 1, state.images.length) })
      draw()
    },
    back() {
      Object.assign(state, { before: null, at: Math.max(state.at - 1, 0) })
      draw()
    },
    close() {
      root.close()
    }
  }
  root.addEventListener('keydown', (event) => key(event, acts))
  root.addEventListener('close', () => {
    root.remove()
    done()
  })
  document.body.append(root)
  root.showModal()
  draw()
  try {
    state.images = (await request('insight/to-rate')).images
    state.isRead = true
  } catch (error) {
    state.trouble = /** @type {Error} */ (error).message
  }
  draw()
}

/** The browser's own: nothing behind it can be reached, and the focus goes back where it was. */
function dialog() {
  const root = document.createElement('dialog')
  root.className = 'rf-page rf-rate'
  root.tabIndex = -1
  root.setAttribute('aria-label', t('insight.rate'))
  keepInside(root)
  return root
}

/** The next picture comes before it is asked for. @param {Image | undefined} image */
function load(image) {
  if (image) new Image().src = thumbnail(image.image, true)
}

/** @param {KeyboardEvent} event @param {Acts} acts */
function key(event, acts) {
  if (event.ctrlKey || event.metaKey || event.altKey) return
  const act = {
    1: () => acts.rate(true),
    2: () => acts.rate(false),
    ArrowRight: acts.skip,
    ArrowLeft: acts.back,
    Escape: acts.close
  }[event.key]
  if (!act) return
  event.preventDefault()
  act()
}

/** @param {State} state @param {Acts} acts */
export function ratingView(state, acts) {
  const { images, at, before, trouble } = state
  const image = images[at]
  return [
    element(
      'div.rf-row',
      { key: 'head' },
      element('strong', { key: 'where' }, where(state)),
      image && button(`1 · ${t('insight.good')}`, () => acts.rate(true), { key: 'good' }),
      image && button(`2 · ${t('insight.bad')}`, () => acts.rate(false), { key: 'bad' }),
      image && button(`→ ${t('insight.skip')}`, acts.skip, { key: 'skip' }),
      at > 0 && button(`← ${t('insight.back')}`, acts.back, { key: 'back' }),
      element('span.rf-space', { key: 'space' }),
      button(t('panel.less'), acts.close, { key: 'close' })
    ),
    trouble && element('p.rf-warn', { key: 'trouble', role: 'alert' }, trouble),
    element('p.rf-quiet', { key: 'before', role: 'status' }, before && saidOf(before)),
    image &&
      element('img.rf-rate-picture', {
        ...{ key: `picture-${image.row}`, src: thumbnail(image.image, true), alt: image.prompt }
      }),
    image?.prompt && element('p.rf-rate-prompt', { key: 'prompt', tabindex: 0 }, image.prompt)
  ]
}

/** @param {State} state */
function where({ images, at, rated, trouble, isRead = true }) {
  if (images[at]) return t('insight.nth', { n: at + 1, all: images.length })
  if (isRead) return t('insight.none_left', { n: rated })
  return trouble ? t('insight.rate') : t('details.loading')
}

/** What the judges had said of the image that was just rated. @param {{good: boolean, said: Said[]}} before */
function saidOf({ good, said }) {
  const each = said.map((one) => {
    const right = one.passed === good ? t('insight.agreed') : t('insight.disagreed')
    return `${one.judge}: ${t(one.passed ? 'panel.passed' : 'panel.failed')} ${score(one.score)}, ${right}`
  })
  return `${t(good ? 'insight.said_good' : 'insight.said_bad')} ${each.join(' · ')}`
}
