/** From ComfyUI's events to the store: what the server sends, which tab a prompt was queued in, when to ask anew. */
import { api } from '../comfy/app.mjs'
import { onQueued } from '../comfy/compat.mjs'
import { tabOf, workflowId } from '../comfy/tabs.mjs'
import { post, request } from '../server.mjs'
import { t } from '../text.mjs'

const EVENT = 'runflow-evaluate.panel'
const ENDS = ['execution_success', 'execution_error', 'execution_interrupted']
/** The tabs of so many prompts are remembered. */
const MOST_PROMPTS = 300
const AGAIN_MS = [2_000, 10_000, 30_000]

/**
 * Where each prompt of this page was queued, and what its nodes were made from.
 * @type {Map<string, {tab: ReturnType<typeof tabOf>, nodes: Record<string, string>}>}
 */
const queued = new Map()

/** Whether a prompt was queued in the open tab, or, as far as this page knows, may have been. */
/** @param {string} prompt */
export function isHere(prompt) {
  const from = queued.get(prompt)
  return from === undefined || from.tab === tabOf()
}

/**
 * @param {import('./store.mjs').Store} store
 * @param {() => Record<string, string>} madeFrom what each node with a panel is made from now; {} for none of ours
 */
export function listen(store, madeFrom) {
  api.addEventListener(EVENT, ({ detail }) => {
    // The server may send it before it was told what it is made from.
    const made = queued.get(detail.prompt)?.nodes[detail.node] ?? ''
    store.put([{ ...detail, made_from: detail.made_from || made }])
  })
  for (const name of ENDS) api.addEventListener(name, ({ detail }) => store.ended(detail.prompt_id))
  api.addEventListener('reconnected', () => read(store))
  onQueued(
    ({ tab, workflow, nodes }, prompt) => {
      queued.set(prompt, { tab, nodes })
      if (queued.size > MOST_PROMPTS) queued.delete([...queued.keys()][0])
      if (Object.keys(nodes).length) tell(store, { workflow, prompt, nodes })
    },
    () => ({ tab: tabOf(), workflow: workflowId(), nodes: madeFrom() })
  )
}

/** Say what the nodes of a prompt are made from; the server says what it knows of just that. */
/** @param {import('./store.mjs').Store} store @param {object} asked */
async function tell(store, asked) {
  try {
    store.put((await post('panels', asked)).panels)
  } catch (error) {
    console.debug('Runflow Evaluate: what was queued could not be noted', error)
  }
}

/** @type {ReturnType<typeof setTimeout> | undefined} */
let again

/** Read what the nodes of the open workflow showed; a failure is said, and it is tried again. */
/** @param {import('./store.mjs').Store} store */
export async function read(store, tries = 0) {
  clearTimeout(again)
  const workflow = workflowId()
  const waited = store.waitingIn(workflow)
  try {
    const { panels } = await request(`panels?workflow=${encodeURIComponent(workflow)}`)
    trouble.text = ''
    store.replace(workflow, panels, waited)
  } catch (error) {
    trouble.text = t('panel.no_server', { message: /** @type {Error} */ (error).message })
    store.touch(workflow)
    if (tries < AGAIN_MS.length) again = setTimeout(() => read(store, tries + 1), AGAIN_MS[tries])
  }
}

/** Why nothing could be read, "" where it could. */
export const trouble = { text: '' }
