"""Texts as vectors: what they are alike in, and the words they stand out by."""

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

from graphnode.dev.ai.reading import UnreadableInput
from graphnode.dev.ai.words import grams, surfaces, words

#: How wide the AI server's embeddings are (the contract).
WIDTH = 384

#: What parts of words weigh beside whole words.
GRAM_WEIGHT = 0.7

#: Parts of words that are in more than this share of the texts are of the language, not of the subject. Among few
#: texts such a share says nothing.
COMMON_GRAM = 0.5
FEW_TEXTS = 8

Floats = NDArray[np.float64]


class Vectors(NamedTuple):
    """Texts, a row each.

    Parameters:
      words: TF-IDF of their words, a sparse matrix.
      terms: the word of each column, as it is written most often.
      rows: words and parts of words together, of length 1: a sparse matrix whose dot products are similarities.
    """

    words: Any
    terms: list[str]
    rows: Any

    def keywords(self, row: int, *, count: int) -> list[tuple[str, float]]:
        """The words by which a text stands out, with their weights from 0 to 1."""
        found = self.words[row]
        return _highest(zip(found.indices, found.data, strict=True), self.terms, count=count)

    def themes(self, members: list[int], *, count: int) -> list[str]:
        """The words by which some of the texts stand out from the others."""
        inside = np.asarray(self.words[members].mean(axis=0)).ravel()
        everywhere = np.asarray(self.words.mean(axis=0)).ravel()
        shared = np.asarray((self.words[members] > 0).sum(axis=0)).ravel() > (1 if len(members) > 2 else 0)
        score = np.where(shared, inside - everywhere * len(members) / self.words.shape[0], 0.0)
        return [term for term, _ in _highest(enumerate(score), self.terms, count=count)]


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: then sums are always of the same order, and what is made again is the same."""
    with threadpool_limits(limits=1):
        yield


def vectors_of(texts: list[str]) -> Vectors:
    """The vectors of some texts, each word weighing the more the fewer of them have it.

    Raises UnreadableInput when there is no word in them.
    """
    found = [words(text) for text in texts]
    terms = [[word.term for word in text] for text in found]
    if not any(terms):
        raise UnreadableInput("There are no words in the input that could tell what it is about.")
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
    """The vectors in at most WIDTH dense columns, by truncated SVD; each row of length 1.

    There are no more columns than there are texts to tell apart.
    """
    texts, features = vectors.rows.shape
    columns = max(1, min(WIDTH, texts - 1, features))
    if texts == 1:
        return np.ones((1, 1))
    # It also computes which share of the variance it explains, and there is none where all texts are the same.
    with np.errstate(invalid="ignore"):
        found = TruncatedSVD(columns, random_state=0).fit_transform(vectors.rows)
    return np.asarray(normalize(found))


def padded(embeddings: Floats) -> Floats:
    """The embeddings as wide as the AI server's: what is missing is zeros, which change no similarity."""
    return np.pad(embeddings, ((0, 0), (0, WIDTH - embeddings.shape[1])))


def _highest(scores: Any, terms: list[str], *, count: int) -> list[tuple[str, float]]:
    """The terms of the highest scores; of equals, the first in the alphabet. No score of 0 counts."""
    named = [(terms[column], float(score)) for column, score in scores if score > 0]
    return sorted(named, key=lambda item: (-round(item[1], 9), item[0]))[:count]
