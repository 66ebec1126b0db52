"""A graph's summary, made of counts, keywords and the sources' own sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from graphnode.dev.ai.text_sources import utc_text
from graphnode.rules.rows import ClusterRow, GraphRows, NodeRow
from graphnode.rules.source_types import RAW_FORMAT
from graphnode.rules.summary import counts

#: Below BRIEF nodes, a summary is brief; from DETAILED nodes on, it is detailed.
BRIEF, DETAILED = 10, 200

#: Most items of each kind in a summary.
INTERESTS = 5
NOTABLE = 3
EVIDENCE = 3
CONNECTIONS = 10
LATEST = 3

#: The summary's own phrases, by language. All other text comes from the sources.
PHRASES: Mapping[str, Mapping[str, str]] = {
    "en": {
        "text": "{sources} sources, {clusters} subjects; the largest are {largest}.",
        "asks": "Asks: {share:.0%} of the messages and sections end with a question.",
        "notes": "Notes down more than it asks.",
        "insight": "{size} sources around {themes}.",
        "month": "Of the dated sources, {count} are of {month}.",
        "recurring": "{term} comes up in {count} subjects.",
        "bridge": "{first} and {second} share {shared}.",
        "tied": "Edges between {first} and {second}: {count}.",
        "lonely_title": "On its own",
        "lonely": "Nothing else among your sources is near to it.",
        "bridge_title": "Two subjects that touch",
        "small_title": "A subject to add to",
        "small": "{name} has the fewest sources.",
    },
    "de": {
        "text": "{sources} Quellen, {clusters} Themen; die größten sind {largest}.",
        "asks": "Fragt nach: {share:.0%} der Nachrichten und Abschnitte enden mit einer Frage.",
        "notes": "Hält mehr fest, als dass gefragt wird.",
        "insight": "{size} Quellen um {themes}.",
        "month": "Von den datierten Quellen sind {count} aus {month}.",
        "recurring": "{term} kommt in {count} Themen vor.",
        "bridge": "{first} und {second} teilen {shared}.",
        "tied": "Kanten zwischen {first} und {second}: {count}.",
        "lonely_title": "Für sich allein",
        "lonely": "Keine andere Quelle ist ihr nah.",
        "bridge_title": "Zwei Themen, die sich berühren",
        "small_title": "Ein Thema zum Ausbauen",
        "small": "{name} hat die wenigsten Quellen.",
    },
    "ko": {
        "text": "자료 {sources}개, 주제 {clusters}개. 가장 큰 주제: {largest}.",
        "asks": "자주 묻는다: 메시지와 단락의 {share:.0%}가 질문으로 끝난다.",
        "notes": "묻기보다 적어 두는 편이다.",
        "insight": "자료 {size}개: {themes}.",
        "month": "날짜가 있는 자료 가운데 {count}개가 {month}의 것이다.",
        "recurring": "주제 {count}개에 나오는 말: {term}.",
        "bridge": "{first} / {second}에 함께 나오는 말: {shared}.",
        "tied": "{first} / {second} 사이의 선: {count}개.",
        "lonely_title": "홀로 있는 자료",
        "lonely": "가까운 자료가 없다.",
        "bridge_title": "맞닿은 두 주제",
        "small_title": "더 모을 주제",
        "small": "자료가 가장 적은 주제: {name}.",
    },
}

#: From this share of questions on, the conversation style is "asks".
ASKS = 0.25


class ClusterNodes(NamedTuple):
    """A cluster with its nodes, those with the strongest edges first."""

    cluster: ClusterRow
    nodes: list[NodeRow]
    keywords: list[str]

    @property
    def name(self) -> str:
        """The cluster's name, or its ID."""
        return self.cluster.name or self.cluster.id


def summarize(graph: GraphRows, *, generated_at: datetime, language: str | None = None) -> dict[str, Any]:
    """A summary document.

    Parameters:
      graph: a cleaned graph.
      generated_at: the time in the document.
      language: of the summary's own phrases: `en`, `de` or `ko`, with or without a region; otherwise English.
    """
    say = PHRASES.get((language or graph.metadata.get("language") or "en")[:2].lower(), PHRASES["en"])
    groups = _groups(graph)
    connections = _connections(graph, groups, say)
    return {
        "overview": _overview(graph, groups, say),
        "clusters": [_cluster(graph, group, say) for group in groups],
        "patterns": _patterns(graph, groups, say),
        "connections": connections,
        "recommendations": _recommendations(graph, groups, connections, say),
        "generated_at": utc_text(generated_at),
        "detail_level": _detail_level(len(graph.nodes)),
    }


def _detail_level(nodes: int) -> str:
    if nodes < BRIEF:
        return "brief"
    return "detailed" if nodes >= DETAILED else "standard"


def _groups(graph: GraphRows) -> list[ClusterNodes]:
    ties = _ties(graph)
    found: dict[str | None, list[NodeRow]] = {}
    for node in sorted(graph.nodes, key=lambda node: (-ties[node.id], node.id)):
        found.setdefault(node.cluster_id, []).append(node)
    groups = []
    for cluster in graph.clusters:
        nodes = found.get(cluster.id, [])
        counts: Counter[str] = Counter()
        for node in nodes:
            counts.update({term: score or 0.1 for term, score in _keywords(node)})
        best = sorted(counts, key=lambda term: (-counts[term], term))
        groups.append(ClusterNodes(cluster, nodes, best))
    return sorted(groups, key=lambda group: (-len(group.nodes), group.cluster.id))


def _overview(graph: GraphRows, groups: list[ClusterNodes], say: Mapping[str, str]) -> dict[str, Any]:
    sources = Counter((node.source_type, node.metadata.get(RAW_FORMAT)) for node in graph.nodes)
    times = sorted(node.timestamp for node in graph.nodes if node.timestamp)
    names = [group.name for group in groups[:INTERESTS]]
    texts = [say["text"].format(sources=len(graph.nodes), clusters=len(groups), largest="; ".join(names[:3]))]
    texts += [text for group in groups[:3] if (text := group.cluster.description)]
    questions = sum(_number(node.metadata.get("questions")) for node in graph.nodes)
    share = questions / max(1, sum(node.num_messages or 0 for node in graph.nodes))
    month = _busiest_month(graph)
    return {
        **counts(sources),
        "time_span": f"{times[0]:%Y-%m-%d} ~ {times[-1]:%Y-%m-%d}" if times else None,
        "primary_interests": names,
        "conversation_style": say["asks"].format(share=min(1.0, share)) if share >= ASKS else say["notes"],
        "most_active_period": month[0] if month else None,
        "summary_text": " ".join(texts),
    }


def _cluster(graph: GraphRows, group: ClusterNodes, say: Mapping[str, str]) -> dict[str, Any]:
    members = {node.id for node in group.nodes}
    inside = [edge for edge in graph.edges if edge.source in members and edge.target in members]
    outside = [edge for edge in graph.edges if (edge.source in members) != (edge.target in members)]
    pairs = len(members) * (len(members) - 1) / 2
    times = [node.timestamp for node in group.nodes if node.timestamp]
    themes = group.cluster.themes or group.keywords[:INTERESTS]
    insight = [say["insight"].format(size=len(members), themes=", ".join(themes[:3]))]
    insight += [str(node.metadata["excerpt"]) for node in group.nodes[:1] if node.metadata.get("excerpt")]
    questions = [
        str(node.metadata["title"]) for node in group.nodes if str(node.metadata.get("title", "")).endswith("?")
    ]
    return {
        "cluster_id": group.cluster.id,
        "name": group.name,
        "size": len(members),
        "density": round(len(inside) / pairs, 4) if pairs else 0.0,
        "centrality": round(len(outside) / max(1, len(graph.edges)), 4),
        "recency": f"{max(times):%Y-%m-%d}" if times else None,
        "top_keywords": group.keywords[:INTERESTS],
        "key_themes": themes,
        "common_question_types": questions[:EVIDENCE],
        "insight_text": " ".join(insight),
        "notable_conversations": [node.orig_id for node in group.nodes[:NOTABLE]],
    }


def _patterns(graph: GraphRows, groups: list[ClusterNodes], say: Mapping[str, str]) -> list[dict[str, Any]]:
    patterns = []
    if month := _busiest_month(graph):
        name, nodes = month
        patterns.append(_pattern("temporal", say["month"].format(count=len(nodes), month=name), nodes, "medium"))
    spread: dict[str, list[NodeRow]] = {}
    for group in groups:
        seen = {term: node for node in reversed(group.nodes) for term, _ in _keywords(node)}
        for term, node in seen.items():
            spread.setdefault(term, []).append(node)
    recurring = sorted((term for term, nodes in spread.items() if len(nodes) > 1), key=lambda t: (-len(spread[t]), t))
    for term in recurring[:EVIDENCE]:
        nodes = spread[term]
        text = say["recurring"].format(term=term, count=len(nodes))
        patterns.append(_pattern("recurring_theme", text, nodes, "high" if len(nodes) > 2 else "low"))
    return patterns


def _pattern(kind: str, description: str, nodes: list[NodeRow], significance: str) -> dict[str, Any]:
    evidence = [_title(node) for node in nodes[:EVIDENCE]]
    return {"pattern_type": kind, "description": description, "evidence": evidence, "significance": significance}


def _connections(graph: GraphRows, groups: list[ClusterNodes], say: Mapping[str, str]) -> list[dict[str, Any]]:
    cluster_of = {node.id: node.cluster_id for node in graph.nodes}
    weights: dict[tuple[str, str], list[float]] = {}
    for edge in graph.edges:
        first, second = cluster_of[edge.source], cluster_of[edge.target]
        if first is not None and second is not None and first != second:
            weights.setdefault((min(first, second), max(first, second)), []).append(edge.weight or 0.0)
    by_id = {group.cluster.id: group for group in groups}
    order = sorted(weights, key=lambda pair: (-sum(weights[pair]), pair))[:CONNECTIONS]
    connections = []
    for pair in order:
        source, target = by_id[pair[0]], by_id[pair[1]]
        shared = [term for term in source.keywords if term in set(target.keywords)][:EVIDENCE]
        count = len(weights[pair])
        fields = {"first": source.name, "second": target.name, "shared": ", ".join(shared), "count": count}
        connections.append(
            {
                "source_cluster": pair[0],
                "target_cluster": pair[1],
                "connection_strength": round(sum(weights[pair]) / count, 4),
                "bridge_keywords": shared,
                "description": say["bridge" if shared else "tied"].format(**fields),
            }
        )
    return connections


def _recommendations(
    graph: GraphRows, groups: list[ClusterNodes], connections: list[dict[str, Any]], say: Mapping[str, str]
) -> list[dict[str, Any]]:
    ties = _ties(graph)
    by_id = {group.cluster.id: group for group in groups}
    found = []
    if connections:
        best = connections[0]
        ends = [by_id[best[side]].nodes[0].orig_id for side in ("source_cluster", "target_cluster")]
        found.append(_recommendation("connect", say["bridge_title"], best["description"], ends, "high"))
    smallest = groups[-1] if groups else None
    if smallest and len(smallest.nodes) < len(groups[0].nodes):
        nodes = [node.orig_id for node in smallest.nodes[:NOTABLE]]
        text = say["small"].format(name=smallest.name)
        found.append(_recommendation("expand", say["small_title"], text, nodes, "medium"))
    for node in [node for node in graph.nodes if not ties[node.id]][:LATEST]:
        title = f"{say['lonely_title']}: {_title(node)}"
        found.append(_recommendation("explore", title, say["lonely"], [node.orig_id], "low"))
    return found


def _recommendation(kind: str, title: str, description: str, nodes: list[str], priority: str) -> dict[str, Any]:
    return {"type": kind, "title": title, "description": description, "related_nodes": nodes, "priority": priority}


def _busiest_month(graph: GraphRows) -> tuple[str, list[NodeRow]] | None:
    months: dict[str, list[NodeRow]] = {}
    for node in graph.nodes:
        if node.timestamp:
            months.setdefault(f"{node.timestamp:%Y-%m}", []).append(node)
    return min(months.items(), key=lambda item: (-len(item[1]), item[0])) if months else None


def _ties(graph: GraphRows) -> Counter[int]:
    """The sum of each node's edge weights, in millionths: sums of integers do not depend on their order."""
    ties: Counter[int] = Counter()
    for edge in graph.edges:
        strength = round(1e6 * (edge.weight or 0.0)) + 1
        ties[edge.source] += strength
        ties[edge.target] += strength
    return ties


def _keywords(node: NodeRow) -> list[tuple[str, float]]:
    return [(str(word["term"]), _number(word.get("score"))) for word in node.listed_keywords if word.get("term")]


def _title(node: NodeRow) -> str:
    return str(node.metadata.get("title") or node.orig_id)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
