"""The message contract as files that other languages read: JSON Schemas, an AsyncAPI document, TypeScript types."""
