/**
 * What ComfyUI serves beside the pack: these addresses exist only in the browser. The types are those of the oldest
 * frontend; what newer ones add is asked for before it is used.
 */
declare module '*/scripts/app.js' {
  import type { ComfyApp } from '@comfyorg/comfyui-frontend-types'
  export const app: ComfyApp
}

declare module '*/scripts/api.js' {
  import type { ComfyApi } from '@comfyorg/comfyui-frontend-types'
  export const api: ComfyApi
}
