/** The pack's page in ComfyUI's settings. The key goes to the pack's own route and never into a setting. */
import { button, el, fill } from './dom.mjs'
import { t } from './text.mjs'

const CATEGORY = 'Runflow Evaluate'

/** ComfyUI's settings of the pack, with their words in `locales`. The first two only draw: what they change is not ComfyUI's to keep. */
export function settings(host) {
  const of = (group, id, more) => ({ id: `RunflowEvaluate.${id}`, name: id, tooltip: id, category: [CATEGORY, group, id], ...more })
  const drawn = (id, rows) => of('Account and limits', id, { tooltip: '', defaultValue: null, type: () => box(host, rows) })
  return [
    drawn('Limits', ({ settings: all }, change) => all.map((each) => limitRow(each, change))),
    drawn('Key', ({ key }, change) => keyRows(key, (action, more) => change('key', { action, ...more }), host)),
    of('New nodes', 'Judge', { type: 'combo', options: ['auto', 'runflow', 'local', 'off'], defaultValue: 'auto' }),
    of('New nodes', 'Reuse', { type: 'boolean', defaultValue: true })
  ]
}

/** Give a new node the values that the person chose for new nodes; a loaded one gets its own afterwards. */
export function applyDefaults(node, setting) {
  const wanted = { RunflowEvaluateImage: ['judge', 'Judge'], RunflowEvaluationOptions: ['reuse', 'Reuse'] }[node.comfyClass]
  const found = wanted && node.widgets?.find(({ name }) => name === wanted[0])
  if (found) found.value = setting.get(`RunflowEvaluate.${wanted[1]}`) ?? found.value
}

/** A box of rows with what is set; `change(path, body)` draws them anew, also where it is refused: as what is in force. */
function box({ server, note }, rows) {
  const shown = el('div.rf-page.rf-setting', {}, t('settings.reading'))
  let now
  const show = async (asked, said) => {
    await tried(note, async () => { now = await asked }, said)
    if (now) fill(shown, ...(now.may_change ? rows(now, change) : [el('p', {}, t('settings.elsewhere'))]))
  }
  const change = async (path, body) => {
    await show(server.post(path, body))
    server.changed()
  }
  show(server.get('settings'), shown)
  return shown
}

function keyRows(set, act, { server, note, ask }) {
  const field = el('input.rf-input', {
    type: 'password', autocomplete: 'off', spellcheck: 'false', 'data-focus': 'key',
    'aria-label': t('settings.key'), placeholder: t(set.set ? 'settings.replace' : 'settings.paste')
  })
  const save = (event) => {
    event.preventDefault()
    const given = field.value
    field.value = ''
    if (given) act('set', { key: given })
  }
  const account = el('span.rf-quiet', { role: 'status' })
  const check = () => tried(note, async () => {
    account.textContent = t('settings.checking')
    const found = await server.post('check', {})
    account.textContent = t('settings.works', { account: found.account || '–', balance: found.balance ?? '–' })
  }, account)
  const does = (name, act) => button(t(`settings.${name}`), act, { 'data-focus': name })
  const remove = async () => (await ask(t('settings.remove'), t('settings.sure'))) && act('remove')
  return [
    el('div.rf-row', {},
      el('strong', {}, set.set ? set.masked : t('settings.none')), set.set && el('span.rf-quiet', {}, set.source),
      set.sandbox && el('span.rf-chip', {}, t('settings.sandbox'))),
    !set.fixed && el('form.rf-row', { onsubmit: save }, field, el('button.rf-button', { type: 'submit', 'data-focus': 'save' }, t('settings.save'))),
    set.fixed && el('p.rf-quiet', {}, t('settings.fixed')),
    el('div.rf-row', {},
      set.set && does('check', check),
      set.set && !set.fixed && does('remove', remove),
      set.importable && does('import', () => act('import')),
      account)
  ]
}

function limitRow({ name, value, default: standard, source, fixed }, change) {
  const label = t(`settings.names.${name}`)
  const isFlag = typeof standard === 'boolean'
  const given = () => (isFlag ? field.checked : field.value === '' ? null : Number(field.value))
  const field = el('input', {
    ...(isFlag ? { type: 'checkbox', checked: value } : { type: 'number', class: 'rf-input', min: 0, step: 'any', value, placeholder: standard ?? t('settings.no_limit') }),
    'aria-label': label, disabled: fixed, 'data-focus': name, title: fixed && t('settings.from', { source }),
    onchange: () => change('settings', { [name]: given() })
  })
  return el('label.rf-limit', {}, el('span', {}, label), field)
}

/** A failure is said where the person looks: in the box that could not be filled, else as a toast. */
async function tried(note, act, box) {
  try {
    await act()
  } catch (error) {
    if (box) box.textContent = error.message
    else note(error.message, 'error')
  }
}
