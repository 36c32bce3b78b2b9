/** Of the thread `name` beside the module at `importer`: `.ts` in a clone, `.js` in a build. */
export function workerUrl(name: string, importer: string): URL {
  const extension = importer.slice(importer.lastIndexOf('.'))
  return new URL(`./${name}${extension}`, importer)
}
