/** That of `package.json`, which a build does not hold. */
export const version = '0.1.0'
