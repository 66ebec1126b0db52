"""The contract's files pass the tools of other languages. `make contract` installs these."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from random import Random

import jsonschema_rs
import pytest

from graphnode.contract.schemas.json_schemas import schemas
from graphnode.contract.schemas.typescript import type_name
from tests.contract.drawing import drawn
from tests.contract.verdicts import refusal

CONTRACT = Path(__file__).parents[2] / "contract"
CHECK = CONTRACT / "check"

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed"),
    pytest.mark.skipif(not (CHECK / "node_modules").is_dir(), reason="`make contract` installs what this needs"),
]


def output_of(*command: str | Path, given: str = "") -> str:
    """The output of a program in the check's directory, which must succeed."""
    ended = subprocess.run(command, cwd=CHECK, input=given, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_the_asyncapi_parser_finds_no_fault() -> None:
    found = output_of("node", "asyncapi.js", CONTRACT / "asyncapi.json").splitlines()

    assert [line for line in found if not line.startswith("information asyncapi-latest-version")] == []


def test_ajv_agrees_with_the_worker_on_every_drawn_value() -> None:
    values = {
        path: [
            value
            for value, _ in drawn(path, schema, jsonschema_rs.validator_for(schema).is_valid, Random(path), each=200)
        ]
        for path, schema in schemas().items()
    }

    verdicts = json.loads(output_of("node", "verdicts.js", CONTRACT / "schemas", given=json.dumps(values)))

    differing = [
        (path, taken, why, value)
        for path in values
        for value, taken in zip(values[path], verdicts[path], strict=True)
        if taken != ((why := refusal(path, value)) is None)
    ]
    assert differing == []
    assert all((sum(taken), len(taken)) == (200, 400) for taken in verdicts.values())


def test_the_types_are_strict_and_refuse_what_they_must() -> None:
    assert output_of(CHECK / "node_modules/.bin/tsc", "--project", ".") == ""


def test_every_example_has_its_type(tmp_path: Path) -> None:
    lines = [f"import type * as graphnode from {json.dumps(str(CONTRACT / 'graphnode'))};"]
    for number, (path, schema) in enumerate(schemas().items()):
        [example] = schema["examples"]
        if path.startswith("notifications/"):
            example = {"type": path.partition("/")[2], "payload": example}
        lines.append(f"export const example{number}: graphnode.{type_name(path)} = {json.dumps(example)};")
    (tmp_path / "examples.ts").write_text("\n".join(lines))
    project = {"extends": str(CHECK / "tsconfig.json"), "files": ["examples.ts"]}
    (tmp_path / "tsconfig.json").write_text(json.dumps(project))

    assert output_of(CHECK / "node_modules/.bin/tsc", "--project", tmp_path) == ""
