import { defineConfig } from 'vitest/config'

const parts = '{core,registry,converter,importer,cli}/**/*.test.ts'
const root = '**/*.root.test.ts'
const minute = 60_000

// `root` needs root rights, `e2e` real programs; a nightly run (DVCR_NIGHTLY=1) has bigger counts.
// oxlint-disable-next-line import/no-default-export -- vitest reads this one
export default defineConfig({
  test: {
    projects: [
      { test: { name: 'unit', include: [parts], exclude: [root], testTimeout: minute / 2 } },
      {
        test: {
          name: 'e2e',
          include: ['test/**/*.test.ts'],
          exclude: [root],
          testTimeout: 10 * minute,
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
          hookTimeout: 10 * minute,
          fileParallelism: false,
        },
      },
    ],
  },
})
