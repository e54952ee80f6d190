/** What is in the settings' two boxes: the key, and the limits. What is shown is what the server has in force. */
import { ask, note } from '../comfy/app.mjs'
import { button, element, keepInside, patch } from '../dom.mjs'
import { post, request, statusChanged } from '../server.mjs'
import { onLanguage, t } from '../text.mjs'

/**
 * @typedef {object} Limit
 * @property {string} name
 * @property {number | boolean | null} value
 * @property {number | boolean | null} default
 * @property {string} source
 * @property {boolean} fixed
 *
 * @typedef {object} Answer what `GET /runflow-evaluate/settings` says
 * @property {boolean} may_change
 * @property {Limit[]} [settings]
 * @property {{set: boolean, masked?: string, source?: string, fixed?: boolean, importable?: boolean,
 *   sandbox?: boolean}} key
 */

class Box {
  /** @type {Answer | null} */
  now = null
  /** @type {string} what a check of the key said */
  said = ''
  /** @type {string} why nothing can be shown */
  trouble = ''
  /** Which question was asked last: an answer to an earlier one comes too late. */
  #asked = 0

  /** @param {HTMLElement} root @param {'Key' | 'Limits'} id */
  constructor(root, id) {
    this.root = root
    this.id = id
    keepInside(root)
    // The settings' page makes its boxes anew each time it is opened, and tells nobody when it is closed.
    const end = onLanguage(() => (root.isConnected ? this.draw() : end()))
    this.read()
  }

  /** Read what is in force; again after what failed. */
  read() {
    this.trouble = ''
    return this.#show(request('settings'))
  }

  /** @param {string} path @param {object} body */
  async change(path, body) {
    this.said = ''
    await this.#show(post(path, body))
    statusChanged()
  }

  /** @param {Promise<Answer>} asking */
  async #show(asking) {
    const turn = ++this.#asked
    try {
      const answer = await asking
      if (turn === this.#asked) this.now = answer
    } catch (error) {
      const { message } = /** @type {Error} */ (error)
      if (this.now) note(message, 'error')
      else this.trouble = message
    }
    this.draw()
  }

  draw() {
    patch(this.root, this.#view())
  }

  #view() {
    const { now, trouble } = this
    if (trouble) {
      const again = button(t('settings.again'), () => this.read(), { 'data-focus': 'again' })
      return [element('p.rf-warn', { role: 'alert' }, trouble), again]
    }
    if (!now) return [element('p', {}, t('settings.reading'))]
    if (!now.may_change) return [element('p', {}, t('settings.elsewhere'))]
    return this.id === 'Key'
      ? keyView(this)
      : (now.settings ?? []).map((each) => limitView(this, each))
  }

  /** Ask Runflow whether the key works. */
  async check() {
    this.said = t('settings.checking')
    this.draw()
    try {
      const { account, balance } = await post('check', {})
      this.said = t('settings.works', { account: account || '–', balance: balance ?? '–' })
    } catch (error) {
      this.said = /** @type {Error} */ (error).message
    }
    this.draw()
  }

  async remove() {
    if (await ask(t('settings.remove'), t('settings.sure'))) {
      await this.change('key', { action: 'remove' })
    }
  }
}

/** @param {Box} box */
function keyView(box) {
  const key = box.now?.key ?? { set: false }
  const act = (/** @type {string} */ name, /** @type {() => unknown} */ does) =>
    button(t(`settings.${name}`), does, { key: name, 'data-focus': name })
  return [
    element(
      'div.rf-row',
      { key: 'now' },
      element('strong', {}, key.set ? key.masked : t('settings.none')),
      key.set && element('span.rf-quiet', {}, key.source),
      key.sandbox && element('span.rf-chip', {}, t('settings.sandbox'))
    ),
    key.fixed
      ? element('p.rf-quiet', { key: 'fixed' }, t('settings.fixed'))
      : keyForm(box, key.set),
    element(
      'div.rf-row',
      { key: 'acts' },
      key.set && act('check', () => box.check()),
      key.set && !key.fixed && act('remove', () => box.remove()),
      key.importable && act('import', () => box.change('key', { action: 'import' })),
      element('span.rf-quiet', { role: 'status', key: 'said' }, box.said)
    )
  ]
}

/** @param {Box} box @param {boolean} set */
function keyForm(box, set) {
  const save = (/** @type {any} */ event) => {
    event.preventDefault()
    const form = event.currentTarget ?? event.target
    const given = form.elements.key.value
    form.reset()
    if (given) box.change('key', { action: 'set', key: given })
  }
  return element(
    'form.rf-row',
    { onsubmit: save, key: 'form' },
    element('input.rf-input', {
      ...{ type: 'password', name: 'key', autocomplete: 'off', spellcheck: 'false' },
      ...{ 'data-focus': 'key', 'aria-label': t('settings.key') },
      placeholder: t(set ? 'settings.replace' : 'settings.paste')
    }),
    element('button.rf-button', { type: 'submit', 'data-focus': 'save' }, t('settings.save'))
  )
}

/** @param {Box} box @param {Limit} limit */
function limitView(box, limit) {
  const { name, value, source, fixed } = limit
  const isFlag = typeof limit.default === 'boolean'
  const label = t(`settings.names.${name}`)
  const onchange = async (/** @type {any} */ { currentTarget: field }) => {
    await box.change('settings', { [name]: given(field, isFlag) })
    putBack(
      field,
      box.now?.settings?.find((each) => each.name === name)
    )
  }
  const kind = isFlag
    ? { type: 'checkbox', checked: value }
    : {
        ...{ type: 'number', class: 'rf-input', min: 0, step: 'any', value },
        placeholder: limit.default ?? t('settings.no_limit')
      }
  return element(
    'label.rf-limit',
    { key: name, title: fixed ? t('settings.from', { source }) : null },
    element('span', {}, label),
    element('input', { ...kind, disabled: fixed, 'data-focus': name, onchange })
  )
}

/** @param {HTMLInputElement} field @param {boolean} isFlag */
function given(field, isFlag) {
  if (isFlag) return field.checked
  return field.value === '' ? null : Number(field.value)
}

/** What was refused is not in force: the field says again what is. */
/** @param {HTMLInputElement} field @param {Limit | undefined} limit */
function putBack(field, limit) {
  if (typeof limit?.value === 'boolean') field.checked = limit.value
  else field.value = String(limit?.value ?? '')
}

/** Draw a box, and keep it as what is in force. @param {HTMLElement} root @param {'Key' | 'Limits'} id */
export function render(root, id) {
  root.textContent = ''
  return new Box(root, id)
}
