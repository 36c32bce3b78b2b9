import { z } from 'zod'
import { errorCodes } from '../core/error-codes.ts'
import { imageRecordSchema } from './images.ts'
import { importRecordSchema, importStates, newImportSchema } from './import-record.ts'
import { credentialsSchema } from './sources/credentials.ts'

const errorsSchema = z.object({
  errors: z.array(
    z.object({
      code: z.string().meta({ examples: Object.keys(errorCodes).slice(0, 3) }),
      message: z.string(),
      detail: z.record(z.string(), z.unknown()).optional(),
    }),
  ),
})

const json = (schema: object) => ({ 'application/json': { schema } })
const ref = (name: string) => ({ $ref: `#/components/schemas/${name}` })
const answer = (description: string, name: string) => ({ description, content: json(ref(name)) })
const failure = { default: answer('Failure; the code says which.', 'Errors') }
const param = (
  name: string,
  where: 'path' | 'query' | 'header',
  description: string,
  type = {},
) => ({
  name,
  in: where,
  required: where === 'path',
  description,
  schema: { type: 'string', ...type },
})
const id = param('id', 'path', 'Id of the import.')
const image = param('image', 'path', 'name:tag or name@digest, percent-encoded.')

function list(name: string, key: string) {
  const items = { type: 'array', items: ref(name) }
  return {
    200: {
      description: `The ${key}.`,
      content: json({ type: 'object', properties: { [key]: items } }),
    },
    ...failure,
  }
}

const paths = {
  '/v1/imports': {
    post: {
      summary: 'Import an image from a web server, a registry or a bucket.',
      parameters: [
        param('Idempotency-Key', 'header', 'The same key with the same body is one import.'),
      ],
      requestBody: { required: true, content: json(ref('NewImport')) },
      responses: { 202: answer('Queued; Location names it.', 'Import'), ...failure },
    },
    get: {
      summary: 'Imports, newest first; finished ones are kept for 30 days by default.',
      parameters: [
        param('state', 'query', 'Only this state.', { enum: importStates }),
        param('name', 'query', 'Only this repository.'),
        param('limit', 'query', 'At most so many (100).', { type: 'integer' }),
      ],
      responses: list('Import', 'imports'),
    },
  },
  '/v1/imports/{id}': {
    get: {
      summary: 'One import.',
      parameters: [id],
      responses: { 200: answer('The import.', 'Import'), ...failure },
    },
    delete: {
      summary: 'Cancel it; a finished import stays as it is.',
      parameters: [id],
      responses: { 200: answer('The import after it stopped.', 'Import'), ...failure },
    },
  },
  '/v1/imports/{id}/pause': {
    post: {
      summary: 'Hold it until it is asked to go on; a finished import stays as it is.',
      parameters: [id],
      responses: { 200: answer('The import after it stopped.', 'Import'), ...failure },
    },
  },
  '/v1/imports/{id}/retry': {
    post: {
      summary: 'Queue it again where it is paused, failed or cancelled.',
      parameters: [id],
      responses: { 200: answer('The import.', 'Import'), ...failure },
    },
  },
  '/v1/imports/{id}/credentials': {
    put: {
      summary: 'Give the credentials again that an import waits for (CREDENTIALS_REQUIRED).',
      parameters: [id],
      requestBody: { required: true, content: json(ref('Credentials')) },
      responses: { 200: answer('The import.', 'Import'), ...failure },
    },
  },
  '/v1/imports/{id}/events': {
    get: {
      summary: 'The import as it changes: server-sent events named "import" until it is finished.',
      parameters: [id],
      responses: {
        200: {
          description: 'Each event holds an Import.',
          content: { 'text/event-stream': { schema: { type: 'string' } } },
        },
        ...failure,
      },
    },
  },
  '/v1/images': {
    get: {
      summary: 'Images, one entry per tag.',
      parameters: [param('name', 'query', 'Only this repository.')],
      responses: list('Image', 'images'),
    },
  },
  '/v1/image/{image}': {
    get: {
      summary: 'One image.',
      parameters: [image],
      responses: { 200: answer('The image.', 'Image'), ...failure },
    },
    delete: {
      summary:
        'Delete a tag, the last one with its image, or by digest the image and all its tags.',
      parameters: [image],
      responses: { 204: { description: 'Deleted.' }, ...failure },
    },
  },
  '/v1/image/{image}/tags/{tag}': {
    put: {
      summary: 'Give the image one more tag.',
      parameters: [
        image,
        param('tag', 'path', 'The new tag.'),
        param('replace', 'query', 'Move the tag if it exists.', { type: 'boolean' }),
      ],
      responses: { 201: answer('The image by its new tag.', 'Image'), ...failure },
    },
  },
}

/** The image API in OpenAPI 3.1, made from the schemas that check requests. */
export function openApiDocument(): object {
  const schema = (type: z.ZodType, io: 'input' | 'output') => {
    const { $schema: _dialect, ...rest } = z.toJSONSchema(type, { io })
    return rest
  }
  return {
    openapi: '3.1.0',
    info: { title: 'DVCR image API', version: '1' },
    paths,
    components: {
      schemas: {
        Credentials: schema(credentialsSchema, 'input'),
        NewImport: schema(newImportSchema, 'input'),
        Import: schema(importRecordSchema, 'output'),
        Image: schema(imageRecordSchema, 'output'),
        Errors: schema(errorsSchema, 'output'),
      },
    },
  }
}
