"""Texts as vectors: their similarity, and their characteristic words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import hstack
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from graphnode.dev.ai.text_sources import UnreadableInput
from graphnode.dev.ai.words import grams, surfaces, words

#: Columns of the AI server's embeddings (docs/contract.md).
WIDTH = 384

#: Weight of parts of words, relative to whole words.
GRAM_WEIGHT = 0.7

#: Parts of words in more than this share of the texts belong to the language, not to a subject, and are ignored. With
#: few texts, the share says nothing.
COMMON_GRAM = 0.5
FEW_TEXTS = 8

Floats = NDArray[np.float64]


class Vectors(NamedTuple):
    """Texts as sparse matrices with a row per text.

    Parameters:
      words: TF-IDF of words.
      terms: the word of each column of `words`, in its most frequent form.
      rows: words and parts of words, normalized: dot products of rows are similarities.
    """

    words: Any
    terms: list[str]
    rows: Any

    def keywords(self, row: int, *, count: int) -> list[tuple[str, float]]:
        """The most characteristic words of a text, with weights from 0 to 1."""
        found = self.words[row]
        return _highest(zip(found.indices, found.data, strict=True), self.terms, count=count)

    def themes(self, members: list[int], *, count: int) -> list[str]:
        """The words that distinguish some of the texts from the others."""
        inside = np.asarray(self.words[members].mean(axis=0)).ravel()
        everywhere = np.asarray(self.words.mean(axis=0)).ravel()
        shared = np.asarray((self.words[members] > 0).sum(axis=0)).ravel() > (1 if len(members) > 2 else 0)
        score = np.where(shared, inside - everywhere * len(members) / self.words.shape[0], 0.0)
        return [term for term, _ in _highest(enumerate(score), self.terms, count=count)]


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: sums then have a fixed order, and results are reproducible."""
    with threadpool_limits(limits=1):
        yield


def vectors_of(texts: list[str]) -> Vectors:
    """The TF-IDF vectors of texts. Raises UnreadableInput if they have no words."""
    found = [words(text) for text in texts]
    terms = [[word.term for word in text] for text in found]
    if not any(terms):
        raise UnreadableInput("There are no words in the input that say what it is about.")
    whole = TfidfVectorizer(analyzer=list, sublinear_tf=True)
    parts = TfidfVectorizer(analyzer=grams, sublinear_tf=True, max_df=COMMON_GRAM if len(texts) >= FEW_TEXTS else 1.0)
    of_words = whole.fit_transform(terms)
    of_parts = parts.fit_transform(terms)
    written = surfaces(word for text in found for word in text)
    return Vectors(
        words=of_words,
        terms=[written[term] for term in whole.get_feature_names_out()],
        rows=normalize(hstack([of_words, GRAM_WEIGHT * of_parts]).tocsr()),
    )


def embeddings_of(vectors: Vectors) -> Floats:
    """Dense rows of length 1 by truncated SVD, with at most WIDTH columns and fewer columns than texts."""
    texts, features = vectors.rows.shape
    columns = max(1, min(WIDTH, texts - 1, features))
    if texts == 1:
        return np.ones((1, 1))
    # Without any variance (identical texts), the explained share of it is 0/0.
    with np.errstate(invalid="ignore"):
        found = TruncatedSVD(columns, random_state=0).fit_transform(vectors.rows)
    return np.asarray(normalize(found))


def padded(embeddings: Floats) -> Floats:
    """The embeddings padded with zeros to the AI server's WIDTH. Zeros change no similarity."""
    return np.pad(embeddings, ((0, 0), (0, WIDTH - embeddings.shape[1])))


def _highest(scores: Any, terms: list[str], *, count: int) -> list[tuple[str, float]]:
    """The terms with the highest positive scores; ties in alphabetical order."""
    named = [(terms[column], float(score)) for column, score in scores if score > 0]
    return sorted(named, key=lambda item: (-round(item[1], 9), item[0]))[:count]
