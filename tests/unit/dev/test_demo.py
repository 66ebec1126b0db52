from __future__ import annotations

from graphnode.dev.demo import CORPUS, count_sources


def test_the_sources_of_a_folder_are_counted_by_extension() -> None:
    assert count_sources(CORPUS / "sources") == {".json": 14, ".md": 16, ".txt": 6}
    assert count_sources(CORPUS / "nowhere") == {}
