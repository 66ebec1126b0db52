"""Everything on the wire: types, decoding, IDs, schemas. The other side of it is not ours to change."""
