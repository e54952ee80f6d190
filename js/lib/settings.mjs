/** The pack's page in ComfyUI's settings. The key goes to the pack's own route and never into a setting. */
import { button, el, fill } from './dom.mjs'
import { t } from './text.mjs'

const CATEGORY = 'Runflow Evaluate'

/** ComfyUI's settings of the pack, with their words in `locales`. The first two only draw: what they change is not ComfyUI's to keep. */
export function settings({ server, note }) {
  const of = (group, id, more) => ({ id: `RunflowEvaluate.${id}`, name: id, tooltip: id, category: [CATEGORY, group, id], ...more })
  const drawn = (id, make) => of('Account and limits', id, { tooltip: '', defaultValue: null, type: () => make(server, note) })
  return [
    drawn('Limits', limits),
    drawn('Key', key),
    of('New nodes', 'Judge', { type: 'combo', options: ['auto', 'runflow', 'local', 'off'], defaultValue: 'auto' }),
    of('New nodes', 'Reuse', { type: 'boolean', defaultValue: true })
  ]
}

/** Give a new node the values that the person chose for new nodes; a loaded one gets its own afterwards. */
export function applyDefaults(node, setting) {
  const wanted = { RunflowEvaluateImage: ['judge', 'Judge'], RunflowEvaluationOptions: ['reuse', 'Reuse'] }[node.comfyClass]
  const found = wanted && node.widgets?.find(({ name }) => name === wanted[0])
  const value = found && setting.get(`RunflowEvaluate.${wanted[1]}`)
  if (value !== undefined && value !== null && found) found.value = value
}

function key(server, note) {
  const box = el('div.rf-page.rf-setting', {}, t('settings.reading'))
  const act = (body) => tried(note, async () => {
    drawKey(await server.post('key', body))
    server.changed()
  })
  const drawKey = (now) => fill(box, ...keyRows(now, act, server, note))
  tried(note, async () => drawKey(await server.get('settings')), box)
  return box
}

function keyRows(now, act, server, note) {
  if (!now.may_change) return [el('p', {}, t('settings.elsewhere'))]
  const { key: set } = now
  const field = el('input.rf-input', {
    type: 'password', autocomplete: 'off', spellcheck: 'false', 'data-focus': 'key',
    'aria-label': t('settings.key'), placeholder: t(set.set ? 'settings.replace' : 'settings.paste')
  })
  const save = async (event) => {
    event.preventDefault()
    const given = field.value
    field.value = ''
    if (given) await act({ action: 'set', key: given })
  }
  const account = el('span.rf-quiet', { role: 'status' })
  const check = () => tried(note, async () => {
    account.textContent = t('settings.checking')
    const found = await server.post('check', {})
    account.textContent = t('settings.works', { account: found.account || '–', balance: found.balance ?? '–' })
  }, account)
  return [
    el('div.rf-row', {},
      el('strong', {}, set.set ? set.masked : t('settings.none')), set.set && el('span.rf-quiet', {}, set.source),
      set.sandbox && el('span.rf-chip', {}, t('settings.sandbox'))),
    !set.fixed && el('form.rf-row', { onsubmit: save }, field, el('button.rf-button', { type: 'submit', 'data-focus': 'save' }, t('settings.save'))),
    set.fixed && el('p.rf-quiet', {}, t('settings.fixed')),
    el('div.rf-row', {},
      set.set && button(t('settings.check'), check, { 'data-focus': 'check' }),
      set.set && !set.fixed && button(t('settings.remove'), () => act({ action: 'remove' }), { 'data-focus': 'remove' }),
      set.importable && !set.fixed && button(t('settings.import'), () => act({ action: 'import' }), { 'data-focus': 'import' }),
      account)
  ]
}

function limits(server, note) {
  const box = el('div.rf-page.rf-setting', {}, t('settings.reading'))
  const draw = (now) => fill(box, ...(now.may_change ? now.settings.map((each) => limitRow(each, change)) : [el('p', {}, t('settings.elsewhere'))]))
  const change = (name, value) => tried(note, async () => {
    draw(await server.post('settings', { [name]: value }))
    server.changed()
  })
  tried(note, async () => draw(await server.get('settings')), box)
  return box
}

function limitRow({ name, value, default: standard, source, fixed }, change) {
  const label = t(`settings.names.${name}`)
  const common = { 'aria-label': label, disabled: fixed, 'data-focus': name, title: fixed ? t('settings.from', { source }) : null }
  const field = typeof standard === 'boolean'
    ? el('input', { type: 'checkbox', ...common, checked: value, onchange: () => change(name, field.checked) })
    : el('input.rf-input', {
      type: 'number', min: 0, step: 'any', value: value ?? '', placeholder: standard ?? t('settings.no_limit'), ...common,
      onchange: () => change(name, field.value === '' ? null : Number(field.value))
    })
  return el('label.rf-limit', {}, el('span', {}, label), field)
}

/** A failure is said where the person looks: in the box that could not be filled, else as a toast. */
async function tried(note, act, box = null) {
  try {
    await act()
  } catch (error) {
    if (box) box.textContent = error.message
    else note(error.message, 'error')
  }
}
