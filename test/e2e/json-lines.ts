/** The lines of a program's output that are JSON objects, as logs are. */
export function jsonLines(output: string): Readonly<Record<string, unknown>>[] {
  return output
    .split('\n')
    .filter((line) => line.startsWith('{') && line.endsWith('}'))
    .map((line) => Object(JSON.parse(line)))
}
