import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseTarget } from './target.ts'

describe('parseTarget', () => {
  it('knows every endpoint', () => {
    expect(parseTarget('')).toEqual({ kind: 'ping' })
    expect(parseTarget('_catalog')).toEqual({ kind: 'catalog' })
    expect(parseTarget('a/b/tags/list')).toEqual({ kind: 'tags', name: 'a/b' })
    expect(parseTarget('a/manifests/v1')).toEqual({ kind: 'manifest', name: 'a', reference: 'v1' })
    expect(parseTarget('_oci/ext/discover')).toEqual({ kind: 'extensions' })
    expect(parseTarget('a/referrers/x:1')).toEqual({ kind: 'referrers', name: 'a', digest: 'x:1' })
    expect(parseTarget('a/blobs/x:1')).toEqual({ kind: 'blob', name: 'a', digest: 'x:1' })
    expect(parseTarget('a/blobs/uploads/')).toEqual({ kind: 'uploads', name: 'a' })
    expect(parseTarget('a/blobs/uploads')).toEqual({ kind: 'uploads', name: 'a' })
    expect(parseTarget('a/blobs/uploads/u')).toEqual({ kind: 'upload', name: 'a', id: 'u' })
  })

  it('knows no others', () => {
    const words = ['a', 'a/b', 'a/tags', 'tags/list', 'a/manifests/', 'a/blobs/', 'blobs/x']
    for (const path of [...words, 'referrers/x', 'a/referrers/']) {
      expect(parseTarget(path)).toBeUndefined()
    }
  })

  it('takes the last of several endpoint words, since names may contain them', () => {
    const word = fc.constantFrom('blobs', 'manifests', 'referrers', 'tags', 'list', 'uploads', 'a')
    fc.assert(
      fc.property(fc.array(word, { minLength: 1 }), (words) => {
        const name = words.join('/')
        const expected = { kind: 'manifest', name, reference: 'v1' }
        expect(parseTarget(`${name}/manifests/v1`)).toEqual(expected)
        expect(parseTarget(`${name}/tags/list`)).toEqual({ kind: 'tags', name })
      }),
    )
  })
})
