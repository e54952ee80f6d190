/** The history as files. */
import { el } from './dom.mjs'

const COLUMNS = ['created_at', 'id', 'outcome', 'score', 'cost', 'seconds', 'feedback', 'issue', 'failure', 'prompt']

/** CSV as RFC 4180 says, for spreadsheets: no cell can be taken for a formula. */
export function toCsv(rows) {
  const lines = rows.map((row) => COLUMNS.map((name) => cell(value(row, name))).join(','))
  return [COLUMNS.join(','), ...lines].join('\r\n') + '\r\n'
}

export function toJson(rows) {
  return JSON.stringify(rows, null, 2)
}

function value(row, name) {
  if (name === 'created_at') return new Date(row.created_at * 1000).toISOString()
  if (name === 'feedback') return row.feedback?.rating === 'none' ? '' : row.feedback?.rating
  return row[name]
}

function cell(given) {
  const text = given === null || given === undefined ? '' : String(given)
  const safe = typeof given === 'string' && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}

/** Every page of the history, one after another. */
export async function everything(server, query) {
  const rows = []
  for (let before = ''; before !== null; ) {
    const page = await server.history({ ...query, before, limit: 500 })
    rows.push(...page.rows)
    before = page.next
  }
  return rows
}

export function download(name, text, type) {
  const address = URL.createObjectURL(new Blob([text], { type }))
  el('a', { href: address, download: name }).click()
  setTimeout(() => URL.revokeObjectURL(address), 1000)
}
