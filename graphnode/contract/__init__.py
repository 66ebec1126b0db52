"""Everything on the wire: types, decoding, IDs, schemas. The API server and the AI server define it, not we."""
