/**
 * Checked, never run: whatever `js/lib/types.d.ts` says that ComfyUI's editor always has is there in the oldest
 * frontend. What only newer ones have must be optional there, and so be asked for before it is used.
 */
import type { ComfyApi, ComfyApp } from '@comfyorg/comfyui-frontend-types'
import type * as ours from '../../js/lib/types'

type Named<T> = keyof { [K in keyof T as string extends K ? never : number extends K ? never : K]: T[K] }
type Always<T> = { [K in Named<T>]-?: object extends Pick<T, K> ? never : K }[Named<T>]
type Missing<Ours, Theirs> = Exclude<Always<Ours>, keyof Theirs>
type None<T extends never> = T

type Graph = ComfyApp['graph']
type Node = Graph['nodes'][number]

export type Checks = [
  None<Missing<ours.ComfyApp, ComfyApp>>,
  None<Missing<ours.ComfyApi, ComfyApi>>,
  None<Missing<ours.Canvas, ComfyApp['canvas']>>,
  None<Missing<ours.Graph, Graph>>,
  // ComfyUI adds `addDOMWidget` to the prototype of every node.
  None<Missing<Omit<ours.GraphNode, 'addDOMWidget'>, Node>>
]
