/**
 * Everything about one image's verdict, in an order in which it is needed: the image, what is wrong, a prompt that
 * would do better, the judges, what is good, and whether the verdict is right. A pure function; the panels, the
 * history and the loops show it.
 */
import { button, element } from '../dom.mjs'
import { judgedBy, score } from '../format.mjs'
import { thumbnail } from '../server.mjs'
import { t } from '../text.mjs'
import { compare } from './compare.mjs'
import { COPIES, factsOf } from './facts.mjs'
import { changesOf, matrix } from './matrix.mjs'
import { ratingView } from './rating.mjs'
import { costAndTime, pill, SIGNS } from './score.mjs'
import { strip } from './strip.mjs'
import { changedPrompt } from './word_diff.mjs'

/**
 * @typedef {import('../types').Verdict & Partial<import('../types').AttemptItem>} Item
 * @typedef {Partial<import('../state/evaluations.mjs').Known> | null | undefined} More
 *
 * @typedef {object} Given
 * @property {Item[]} items
 * @property {number} index which of them
 * @property {import('../types').Loop | null} loop
 * @property {string} picked the image that a person took
 * @property {boolean} outdated
 * @property {More} more what the journal has; null while it is read
 * @property {string} prompt what the image was judged against, "" where that is not known
 * @property {import('../types').Offer | null} offer to take this attempt
 * @property {{asks: boolean, trouble: string, said: string, copied: string, large: boolean,
 *   pair: [number, number] | null, share: number}} ui what a person opened, and what was said of what they did
 *
 * @typedef {object} Acts
 * @property {() => void} close
 * @property {(index: number) => void} choose
 * @property {((text: string) => void) | null} usePrompt
 * @property {(item: Item) => void} take
 * @property {(rating: 'good' | 'bad' | 'clear', reason: string) => void} rate
 * @property {(text: string, name: string, beside: Element) => void} copy
 * @property {(change: Partial<Given['ui']>) => void} show
 * @property {() => void} readAll read what the journal has of every attempt
 */

/** @param {Given} given @param {Acts} acts @returns {import('../dom.mjs').Description[]} */
export function inspectorView(given, acts) {
  const { items, index, loop, ui } = given
  const item = items[index]
  return [
    header(given, item, acts),
    // ComfyUI's own note may be below this, which is in the top layer.
    ...(ui.said ? [element('p.rf-said', { key: 'said', role: 'status' }, ui.said)] : []),
    element(
      'div.rf-inside',
      { key: 'inside', 'data-capture-wheel': 'true', tabindex: -1 },
      items.length > 1 &&
        strip({
          items,
          selected: index,
          winner: loop?.winner.number ?? 0,
          picked: given.picked,
          choose: acts.choose
        }),
      image(given, item, acts),
      loop && attempt(given, item, acts),
      wrong(item, given.more),
      improved(given, item, acts),
      judges(item, given.more),
      good(item, given.more),
      item.notes.length > 0 && section('notes', t('details.notes'), bullets(item.notes)),
      loop && attempts(given, loop, acts),
      rating(given, item, acts),
      footer(given, item, acts)
    )
  ]
}

/** @param {Given} given @param {Item} item @param {Acts} acts */
function header({ items, index, loop, outdated, picked }, item, acts) {
  const place = loop
    ? t(item.number === loop.winner.number ? 'loop.winner' : 'loop.attempt', {
        n: item.number,
        all: loop.attempts.length
      })
    : items.length > 1 && t('panel.nth', { n: index + 1, all: items.length })
  const own = picked && item.images?.includes(picked)
  return element(
    'header.rf-head',
    { key: 'head' },
    pill(item.verdict, t(`panel.${item.verdict}`)),
    item.score !== null &&
      element('span.rf-score', { 'data-outcome': item.verdict }, score(item.score)),
    [place, own && t('panel.yours'), outdated && t('panel.outdated')]
      .filter(Boolean)
      .map((each) => element('span.rf-chip', {}, each)),
    element('span.rf-space'),
    button(t('panel.less'), acts.close, { 'data-focus': 'close' })
  )
}

/** @param {Given} given @param {Item} item @param {Acts} acts */
function image({ ui }, item, acts) {
  if (!item.image) return null
  return element(
    'button.rf-large',
    {
      type: 'button',
      key: `image ${item.image}`,
      'aria-pressed': String(ui.large),
      'data-focus': 'image',
      'aria-label': t('details.enlarge'),
      title: t('details.enlarge'),
      onclick: () => acts.show({ large: !ui.large })
    },
    element('img', {
      src: thumbnail(item.image, true),
      alt: t('details.image'),
      draggable: 'false',
      onerror: (/** @type {any} */ event) => event.currentTarget.closest('button').remove()
    })
  )
}

/** @param {Item} item @param {More} more */
function wrong(item, more) {
  const groups = factsOf(item, more)
  return section(
    'wrong',
    groups.length > 0 && t('details.issues'),
    groups.map(({ name, lines }) =>
      element(
        'div.rf-group',
        { key: name },
        name && element('h5', {}, name),
        bullets(lines, 'rf-wrong')
      )
    ),
    more === null && element('p.rf-quiet', {}, t('details.loading')),
    more?.trouble && element('p.rf-quiet', {}, t('details.trouble', { message: more.trouble }))
  )
}

/** @param {Given} given @param {Item} item @param {Acts} acts */
function improved({ more, prompt, ui }, item, acts) {
  const text = item.improved_prompt || more?.improved_prompt
  if (!text) return null
  const { usePrompt } = acts
  return section(
    'improved',
    t('details.improved'),
    changedPrompt(item.prompt || more?.prompt || prompt, text),
    element(
      'div.rf-row',
      {},
      usePrompt &&
        button(t('details.use'), () => usePrompt(text), {
          'data-focus': 'use',
          title: t('details.use_tip')
        }),
      copier(text, 'prompt', t('details.copy'), ui, acts)
    )
  )
}

/** @param {Item} item @param {More} more */
function judges(item, more) {
  const all = more?.judges?.length ? more.judges : item.judges
  if (!all.length) return null
  const failed = all.filter((judge) => judge.passed === false)
  const title = t(
    item.judge === 'local' || item.judge === 'preflight' ? 'details.checks' : 'details.judges',
    { failed: failed.length, all: all.length }
  )
  return section('judges', title, [...new Set([...failed, ...all])].map(judge))
}

/** @param {import('../types').Opinion} each */
function judge({ name, category, passed, reasoning, issues, evidence, ...numbers }) {
  const decided = passed ? 'passed' : 'failed'
  const outcome = passed === null ? 'unknown' : decided
  const facts = /** @type {const} */ (['confidence', 'weight'])
    .filter((each) => numbers[each] !== null)
    .map((each) => `${t(`details.${each}`)} ${Number(numbers[each]?.toFixed(2))}`)
  return element(
    'details.rf-judge',
    { key: `${name} ${category}` },
    element(
      'summary',
      {},
      element(
        'span.rf-dot',
        { 'data-outcome': outcome, role: 'img', 'aria-label': t(`panel.${outcome}`) },
        SIGNS[outcome]
      ),
      element('strong', {}, name || t('details.judge')),
      category && element('span.rf-chip', {}, category),
      element('span.rf-quiet', {}, facts.join(' · '))
    ),
    reasoning && element('p', {}, reasoning),
    bullets(
      issues.map(({ kind, detail }) => [kind, detail].filter(Boolean).join(': ')),
      'rf-wrong'
    ),
    evidence.length > 0 && element('p.rf-quiet', {}, t('details.evidence')),
    bullets(evidence)
  )
}

/** @param {Item} item @param {More} more */
function good(item, more) {
  const lines = item.strengths.length ? item.strengths : (more?.strengths ?? [])
  return lines.length ? section('good', t('details.strengths'), bullets(lines)) : null
}

/** What an attempt was made from, what changed since the one before, and the button that takes it. */
/** @param {Given} given @param {Item} item @param {Acts} acts */
function attempt({ loop, offer }, item, acts) {
  const before = loop?.attempts[(item.number ?? 1) - 2]
  const { repairs = 0, lost = [], gained = [] } = item
  const changes = [repairs > 0 && t('loop.repairs', { n: repairs }), ...changesOf({ lost, gained })]
  return section(
    'attempt',
    t('loop.seed', { seed: item.seed }),
    changedPrompt(before?.prompt ?? '', item.prompt ?? ''),
    changes.filter(Boolean).map((line) => element('p', {}, line)),
    offer &&
      !offer.not &&
      element(
        'div.rf-row',
        {},
        button(offer.label, () => acts.take(item), { title: offer.tip, 'data-focus': 'take' })
      ),
    offer?.not && element('p.rf-quiet', {}, offer.not),
    offer?.tip && !offer.not && element('p.rf-quiet', {}, offer.tip),
    loop?.warnings.map((line) => element('p.rf-warn', {}, line))
  )
}

/** @param {Given} given @param {import('../types').Loop} loop @param {Acts} acts */
function attempts({ items, index, ui }, loop, acts) {
  if (loop.attempts.length < 2) return null
  const firsts = loop.attempts.map(({ items: [first] }) => first)
  const chosen = (items[index].number ?? 1) - 1
  const other = chosen === loop.winner.number - 1 ? Math.max(0, chosen - 1) : loop.winner.number - 1
  const pair = ui.pair ?? [other, chosen]
  return [
    folded(
      'loop.matrix',
      acts.readAll,
      matrix(firsts, chosen, (at) => acts.choose(items.indexOf(firsts[at])))
    ),
    firsts.every((each) => each.image) &&
      folded(
        'loop.compare',
        () => {},
        compare({
          items: firsts,
          pair,
          share: ui.share,
          choose: (wanted) => acts.show({ pair: wanted }),
          slide: (share) => acts.show({ share })
        })
      )
  ]
}

/** @param {string} title @param {() => void} opened @param {import('../dom.mjs').Description} inside */
function folded(title, opened, inside) {
  const ontoggle = (/** @type {any} */ event) => event.currentTarget.open && opened()
  return element(
    'details.rf-fold',
    { key: title, ontoggle },
    element('summary', {}, t(title)),
    inside
  )
}

/** @param {Given} given @param {Item} item @param {Acts} acts */
function rating({ more, ui, loop, picked }, item, acts) {
  if (!item.id || item.judge === 'local' || !more || more.trouble) return null
  const overruled =
    loop && picked && item.images?.includes(picked) && item.number !== loop.winner.number
  return ratingView({
    now: more.feedback,
    asks: ui.asks || Boolean(overruled && more.feedback?.rating === 'none'),
    offered: overruled ? t('rating.taken', { n: item.number, winner: loop.winner.number }) : '',
    trouble: ui.trouble,
    rate: acts.rate,
    ask: () => acts.show({ asks: true })
  })
}

/** @param {Given} given @param {Item} item @param {Acts} acts */
function footer({ more, ui }, item, acts) {
  const action = more?.action && t('details.action', { action: more.action.replaceAll('_', ' ') })
  const facts = [judgedBy(item), ...costAndTime(item), action, more?.reason].filter(Boolean)
  return element(
    'footer.rf-foot',
    { key: 'foot' },
    element('span.rf-quiet', {}, facts.join(' · ')),
    element(
      'div.rf-row',
      {},
      element('span.rf-quiet', {}, t('details.copy_as')),
      Object.entries(COPIES).map(([name, make]) => copier(make(item, more), name, name, ui, acts)),
      item.id && copier(item.id, 'id', 'ID', ui, acts)
    ),
    item.id && element('code', { title: item.id }, item.id)
  )
}

/** @param {string} text @param {string} name @param {string} label @param {Given['ui']} ui @param {Acts} acts */
function copier(text, name, label, ui, acts) {
  const act = (/** @type {any} */ event) => acts.copy(text, name, event.currentTarget)
  return button(ui.copied === name ? t('details.copied') : label, act, {
    'data-focus': `copy-${name}`
  })
}

/** @param {string[]} lines */
function bullets(lines, kind = 'rf-plain') {
  return (
    lines.length > 0 &&
    element(
      `ul.${kind}`,
      {},
      lines.map((line) => element('li', {}, line))
    )
  )
}

/** @param {string} key @param {string | false} title @param {...any} children */
function section(key, title, ...children) {
  return element('section', { key }, title && element('h4', {}, title), children)
}
