/** True in the long run (`npm run test:nightly`): every combination instead of a sample. */
export const isNightly = process.env['DVCR_NIGHTLY'] === '1'
