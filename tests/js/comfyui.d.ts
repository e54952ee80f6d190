/**
 * What ComfyUI serves beside the pack: these addresses exist only in the browser. `js/lib/types.d.ts` describes the
 * part that the pack uses; `frontend.check.ts` compares that with the oldest frontend's own types.
 */
declare module '*/scripts/app.js' {
  export const app: import('../../js/lib/types').ComfyApp
}

declare module '*/scripts/api.js' {
  export const api: import('../../js/lib/types').ComfyApi
}
