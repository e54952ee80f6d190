/**
 * Shapes that the modules share: what Python sends (tested against JSON that Python writes), and the small part of
 * ComfyUI's editor that the pack uses. `comfy/app.mjs` is the only door to the latter.
 */

// --- what the server says -----------------------------------------------------------------------

export type Outcome = 'passed' | 'failed' | 'unknown'

/** One judge's opinion, as a node sends it or the journal has it. */
export interface Opinion {
  name: string
  category: string
  passed: boolean | null
  confidence: number | null
  weight: number | null
  reasoning: string
  evidence: string[]
  issues: { kind?: string; detail?: string }[]
}

/** One image's verdict: an entry of `ui.runflow`. */
export interface Verdict {
  id: string | null
  image: string
  judge: string
  /** Answered by the pack's own sandbox: not Runflow, and nothing was paid. */
  practice: boolean
  /** "you", or a model's name and where it is; "" for the other judges. */
  judged_by?: string
  verdict: Outcome
  score: number | null
  /** What is wrong with the image, or why it was not judged. */
  issues: string[]
  /** How it was judged: a smaller copy was sent, the journal could not be written, only pixels were looked at. */
  notes: string[]
  strengths: string[]
  judges: Opinion[]
  improved_prompt: string
  cost: string
  seconds: number | null
  reused: boolean
}

/** One image of one attempt of a loop. */
export interface AttemptItem extends Verdict {
  number: number
  prompt: string
  seed: string
  images: string[]
  /** The attempt whose image was changed, 0 where it was made anew. */
  repairs: number
  /** Lines that passed in the attempt it repairs, or in the one before, and failed here; and the other way round. */
  lost: string[]
  gained: string[]
}

export interface Attempt extends AttemptItem {
  items: AttemptItem[]
}

/** A loop as its End sends it: `ui.runflow_regenerate`. */
export interface Loop {
  attempts: Attempt[]
  winner: Attempt
  items: AttemptItem[]
  cost: string
  start: string
  reason: string
  warnings: string[]
}

export type Phase = 'waiting' | 'done' | 'stopped'

/** What one node shows: an event "runflow-evaluate.panel", or an entry of `GET /runflow-evaluate/panels`. */
export interface PanelState {
  workflow: string
  prompt: string
  node: string
  phase: Phase
  /** What the panel is about: a hash of all that the node's result depends on. */
  identity: string
  /** What the page said at Run that the node was made from; "" where no page said so. */
  made_from: string
  /** Seconds since 1970. */
  at: number
  /** Codes and numbers of the phase: how it waits, or why it stopped. */
  code: string
  message: string
  numbers: Record<string, number>
  min_score: number
  verdicts: unknown[]
  loop: unknown
  /** When the page heard of it, in milliseconds since 1970. */
  received?: number
}

/** `GET /runflow-evaluate/status`. */
export interface Status {
  judge: string
  prices: Record<string, string>
  usual?: { p50: number; p90: number } | null
  /** What the server adds for the plan (limits, whether a model is configured, …). */
  [more: string]: unknown
}

export interface Feedback {
  rating: 'none' | 'good' | 'bad'
  reason: string
}

/** `GET /runflow-evaluate/history/ID`: what the journal has of an evaluation. */
export interface Detail {
  id: string
  judges: Opinion[]
  gates: { module?: string; output_key?: string; reason?: string }[]
  strengths: string[]
  improved_prompt: string
  prompt: string
  action: string
  reason: string
  feedback: Feedback
  [more: string]: unknown
}

// --- what modules give each other ------------------------------------------------------------------

/** What the next Run does at a node: `plan(node, survey, status)` of `state/plan.mjs`, a pure function. */
export interface Plan {
  /** Whether ComfyUI will run the node; null where another pack decides that when the prompt is made. */
  runs: boolean | null
  /** Whether the text is a warning. */
  warns: boolean
  /** The text's key (`plan.price`, `plan.no_output`, …) and what it is filled with. */
  text: string
  values: Record<string, string | number>
  /** What one press would mend; "" for nothing. */
  remedy: '' | 'show' | 'key'
  /** Who judges: runflow, local, model, person, off; "" where this node does not ask for it. */
  judge: string
  /** Credits for one image, decimal text; "" where nothing is paid or it is not known. */
  price: string
  /** Credits that the next Run pays for this node at most; "" as above. */
  most: string
  /** How many images it judges each time; null where that is not known. */
  images: number | null
  /** How often loops make it judge, at most. */
  attempts: number
  /** Whether it may judge more often than that, up to the limit of the Run. */
  open: boolean
}

/**
 * What each lazily loaded module offers to the rest:
 * - `gestures/commands.mjs`: `commands()`, `menuItems(node)`, `toolbox(item)`, `nodeCreated(node)`
 * - `gestures/commands.mjs`: `showVerdict(evaluate)` (the remedy `show`)
 * - `gestures/take_attempt.mjs`: `takeAttempt(end, loop, attempt)`, `attemptOffer(end, loop, attempt)` (pure: the text
 *   and tip of the button, or why it cannot), `usePrompt(node, text)`
 * - `history/page.mjs`: `render(parent)`, `destroy()`, `ended()`
 * - `settings/page.mjs`: `settings()` and `applyDefaults(node)` are small enough to be loaded at start
 */
export interface Offer {
  label: string
  tip: string
  /** Why it cannot be done, "" where it can. */
  not: string
}

// --- ComfyUI's editor ----------------------------------------------------------------------------

export type NodeId = number | string

export interface Link {
  id: number
  origin_id: NodeId
  origin_slot: number
  target_id: NodeId
  target_slot: number
  type: string
}

export interface Slot {
  name: string
  type: string
  label?: string
  localized_name?: string
  link?: number | null
  links?: number[] | null
  widget?: { name: string }
  [more: string]: any
}

export interface Widget {
  name: string
  type: string
  value: any
  label?: string
  options?: Record<string, any>
  element?: HTMLElement
  hidden?: boolean
  serialize?: boolean
  linkedWidgets?: Widget[]
  callback?: (value: any) => void
  [more: string]: any
}

export interface GraphNode {
  id: NodeId
  type: string
  comfyClass?: string
  title: string
  mode: number
  pos: [number, number]
  size: [number, number]
  flags: { collapsed?: boolean; [more: string]: any }
  inputs: Slot[]
  outputs: Slot[]
  widgets?: Widget[]
  properties: Record<string, any>
  graph: Graph | null
  subgraph?: Graph
  badges?: unknown[]
  setSize(size: [number, number]): void
  computeSize(): [number, number]
  setDirtyCanvas(foreground: boolean, background?: boolean): void
  addDOMWidget(name: string, type: string, element: HTMLElement, options: object): Widget
  connect(slot: number, node: GraphNode, input: number | string): unknown
  onRemoved?: (...given: any[]) => void
  [more: string]: any
}

export interface Graph {
  id: string
  nodes: GraphNode[]
  links: unknown
  inputs?: Slot[]
  outputs?: Slot[]
  inputNode?: any
  outputNode?: any
  extra: Record<string, any>
  getNodeById(id: NodeId | null | undefined): GraphNode | null
  getLink(id: number | null | undefined): Link | undefined | null
  add(node: GraphNode): unknown
  remove(node: GraphNode): unknown
  [more: string]: any
}

export interface Canvas {
  graph: Graph
  ds: { scale: number; offset: [number, number] }
  canvas: HTMLCanvasElement
  selected_nodes?: Record<string, GraphNode>
  setGraph(graph: Graph): void
  centerOnNode(node: GraphNode): void
  selectNode?(node: GraphNode): void
  selectNodes?(nodes: GraphNode[]): void
  setDirty(foreground: boolean, background?: boolean): void
  emitBeforeChange(): void
  emitAfterChange(): void
  [more: string]: any
}

export interface ComfyApp {
  graph: Graph
  rootGraph: Graph
  canvas: Canvas
  ui: any
  extensionManager: {
    setting: { get(id: string): any; set(id: string, value: any): unknown }
    toast: { add(message: object): void }
    dialog: {
      confirm(options: { title: string; message: string }): Promise<boolean | null>
      prompt(options: object): Promise<string | null>
    }
    command: { execute(id: string): Promise<unknown> }
    workflow?: any
    registerSidebarTab(tab: object): void
    [more: string]: any
  }
  registerExtension(extension: object): void
  [more: string]: any
}

export interface ComfyApi extends EventTarget {
  clientId?: string
  fetchApi(route: string, options?: RequestInit): Promise<Response>
  apiURL(route: string): string
  interrupt(prompt?: string | null): Promise<void>
  addEventListener(type: string, listener: (event: any) => void, options?: any): void
  [more: string]: any
}
