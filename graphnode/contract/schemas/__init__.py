"""The message contract as files for other languages: JSON Schemas, an AsyncAPI document, TypeScript types."""
