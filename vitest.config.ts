import { defineConfig } from 'vitest/config'

const parts = '{core,registry,converter,importer,cli}/**/*.test.ts'
const root = '**/*.root.test.ts'
const minute = 60_000
/** Real servers on a busy machine take their time. */
const expectPatiently = { poll: { timeout: minute / 6 } }

// `root` needs root rights, `e2e` real programs; a nightly run (DVCR_NIGHTLY=1) has bigger counts.
// oxlint-disable-next-line import/no-default-export -- vitest reads this one
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: [parts],
          exclude: [root],
          testTimeout: minute / 2,
          expect: expectPatiently,
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['test/**/*.test.ts'],
          exclude: [root],
          testTimeout: 10 * minute,
          expect: expectPatiently,
          hookTimeout: 10 * minute,
          maxWorkers: 2,
        },
      },
      {
        test: {
          name: 'root',
          include: [root],
          exclude: ['node_modules/**', 'dist/**'],
          testTimeout: 10 * minute,
          expect: expectPatiently,
          hookTimeout: 10 * minute,
          fileParallelism: false,
        },
      },
    ],
  },
})
