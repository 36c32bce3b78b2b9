/** Callers of the same key at the same time share one run of the action, and its outcome. */
export function createSingleFlight<T>(): (key: string, action: () => Promise<T>) => Promise<T> {
  const flying = new Map<string, Promise<T>>()
  return (key, action) => {
    const joined = flying.get(key)
    if (joined) return joined
    const flight = action().finally(() => flying.delete(key))
    flying.set(key, flight)
    return flight
  }
}
