"""Schemathesis asks each door, by the real server, what its description allows and not.

Its findings are: an answer that is not described (status, media type, headers, body),
a request taken that the description forbids, a method that is not served, any 5xx.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.doors import serving

EXAMPLES = 10
CASES_MIN = 30
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "ignored_auth",
)


@pytest.mark.parametrize(
    ("which", "about", "phases"),
    [
        ("swap", "any", "examples,coverage,fuzzing"),
        ("swap", "known", "examples,fuzzing"),
        ("audit", "any", "coverage,fuzzing"),
        ("billing", "known", "coverage,fuzzing"),
    ],
)
def test_schemathesis_finds_nothing(
    which: str, about: str, phases: str, tmp_path: Path
) -> None:
    """Whatever is asked, about any job or month or one that is there."""
    with serving(which, tmp_path) as door:
        parameters = {"path.tenant": "acme", "path.epoch": "0", "path.index": "0"}
        if about == "known":
            parameters |= {"path.job": door.job, "path.name": "2026-11"}
        told = ", ".join(f'"{name}" = "{text}"' for name, text in parameters.items())
        config = tmp_path / "schemathesis.toml"
        config.write_text(f"parameters = {{ {told} }}\n")
        asked = subprocess.run(
            [
                Path(sys.executable).with_name("st"),
                *("--config-file", config, "run", f"{door.url}/openapi.json"),
                *("--header", f"Authorization: Bearer {door.token}"),
                *("--checks", ",".join(CHECKS)),
                *("--phases", phases, "--no-color"),
                *("--max-examples", str(EXAMPLES), "--seed", "1", "--workers", "1"),
            ],
            capture_output=True,
            check=False,
            cwd=tmp_path,
            env=os.environ | {"NO_PROXY": "127.0.0.1"},
            text=True,
            timeout=300,
        )
        log = door.log.read_text()
    assert asked.returncode == 0, asked.stdout + asked.stderr
    [cases] = re.findall(r"(\d+) generated, (\d+) passed", asked.stdout)
    assert int(cases[0]) == int(cases[1]) >= CASES_MIN
    assert "ERROR" not in log
    assert "Traceback" not in log
