/**
 * Runs scenarios in one Chromium for a test process that asks for them line by line on stdin:
 * {"scenario": "verdict.judged", "url": …, "renderer": "canvas" | "vue", "given": {…}} → {"ok": true, "found": …}.
 * Before its answer a scenario may say "judge": then the sandbox judges what it holds back.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { chromium } from 'playwright-core'
import { Editor } from './editor.mjs'

const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--force-prefers-reduced-motion'
]
const OPEN_PAGES = 2
const START_MS = 300_000
const VIEW = { width: 1500, height: 1050 }

const profile = await mkdtemp(join(tmpdir(), 'runflow-browser-'))
const browser = await chromium.launch({ ignoreDefaultArgs: ['--hide-scrollbars'], executablePath: process.env.RUNFLOW_TEST_CHROMIUM || '/usr/bin/chromium', args: FLAGS, env: { ...process.env, HOME: profile }, timeout: START_MS })
const editors = new Map()
const say = (message) => process.stdout.write(JSON.stringify(message) + '\n')

const nameOf = ({ url, renderer, palette = 'dark' }) => `${url} ${renderer} ${palette}`

/**
 * One page per server and renderer: a scenario loads its own workflow, or says that it needs a new page. A new page
 * (`fresh`) finds nothing that an earlier one kept, but the editor's files in the cache; `"browser"` not even these.
 * Only the pages used last stay open, and only the one that is used draws: it takes the processor from the others.
 */
async function editorOf({ url, renderer, fresh, goes_on, palette = 'dark' }) {
  const name = nameOf({ url, renderer, palette })
  const before = editors.get(name)
  editors.delete(name)
  for (const [other, editor] of [...editors].slice(0, -(OPEN_PAGES - 1))) {
    editors.delete(other)
    await editor.close()
  }
  for (const other of editors.values()) await other.rest()
  await before?.wake()
  if (before && !fresh && (goes_on || (await before.tidy()))) {
    editors.set(name, before) // as the one used last
    return before
  }
  if (fresh === 'browser') await before?.close()
  const again = fresh === 'browser' ? null : before?.context // a page that could not be tidied is one of these too
  const context = again ?? (await browser.newContext({ viewport: VIEW, acceptDownloads: true, locale: 'en-US' }))
  if (again) await forget(before.page, url)
  editors.set(name, await Editor.open(context, url, renderer, palette))
  return editors.get(name)
}

/** End a page, and what it kept in the browser. */
async function forget(page, url) {
  const between = await page.context().newPage()
  await page.close()
  const devtools = await between.context().newCDPSession(between)
  await devtools.send('Storage.clearDataForOrigin', { origin: url, storageTypes: 'all' })
  await between.close()
}

async function leave(asked, editor) {
  editors.delete(nameOf(asked))
  await editor.close()
}

async function run(asked) {
  const [file, name] = asked.scenario.split('.')
  const scenarios = await import(`./scenarios/${file}.mjs`)
  const editor = await editorOf(asked)
  for (const each of [editor.troubles, editor.excuses]) each.length = 0
  editor.judgeNow = () => say('judge')
  try {
    const found = await scenarios[name](editor, asked.given ?? {})
    if (editor.complaints().length) throw new Error(`The console has errors:\n${editor.complaints().join('\n')}`)
    if (editor.spent) await leave(asked, editor)
    return { ok: true, found: found ?? null }
  } catch (error) {
    const picture = asked.picture && (await editor.page.screenshot({ path: asked.picture }).then(() => asked.picture, () => null))
    await editor.stop().catch(() => {})
    await leave(asked, editor)
    return { ok: false, error: [error.stack, ...editor.complaints()].join('\n'), picture }
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const answer = await run(JSON.parse(line)).catch((error) => ({ ok: false, error: error.stack, picture: null })) // no editor
  say(answer)
}
await browser.close()
await rm(profile, { recursive: true, force: true })
