"""Requests that nobody meant, to every route: an answer with a sentence, never a failure of ours."""

import base64
import logging
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import SecretStr
from werkzeug.routing import Rule

from backend.loop.events import SECRET_HEADER
from backend.store.tables import Project
from tests.dashboard.stored_loop import CONFIG, StoredLoop
from tests.security.mutation import as_body, changed, damaged_bytes, pick, strange
from tests.security.watch import INPUTS, run

SECRET = "the secret of project 3"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
NUMBERS = ("3", "3", "3", "3", "4", "0", "-1", "2147483648", "9" * 40, "x", "..", "%00", "1.5")
TASK = {"id": 21, "data": {"image": "21.png"}}
EVENT = {"action": "ANNOTATION_CREATED", "project": {"id": 3, "label_config": CONFIG}, "task": TASK}
BODIES: Mapping[str, tuple[Any, ...]] = {
    "protocol.setup": ({"project": "3.1760000000", "schema": CONFIG, "extra_params": {"window": 5}},),
    "protocol.predict": ({"project": "3.1760000000", "label_config": CONFIG, "tasks": [TASK, TASK]},),
    "protocol.webhook": (EVENT, EVENT | {"action": "TASKS_DELETED", "tasks": [TASK] * 3}),
}
FORM = {"window": "5", "strategy": "margin", "audit_share": "0.2", "preannotate": "true"}
# What asks Label Studio, which is away: it is asked less often.
ASKING = ("dashboard.deviations_part", "dashboard.save_settings", "dashboard.thumbnail")


@pytest.fixture(params=[True, False], ids=["guarded", "open"])
def loop(tmp_path: Path, request: pytest.FixtureRequest) -> StoredLoop:
    roles = {"basic_auth_user": "lead", "basic_auth_pass": SecretStr("l")} if request.param else {}
    roles |= {"viewer_user": "viewer", "viewer_pass": SecretStr("v")} if request.param else {}
    made = StoredLoop(tmp_path, **roles)
    made.change(Project, 3, webhook_secret=SECRET)
    return made


def path_of(rule: Rule, chance: random.Random) -> str:
    """An address for a route; its numbers are seldom good."""
    path = rule.rule
    for name in rule.arguments:
        given = (
            pick(NUMBERS, chance)
            if name != "filename"
            else quote(str(strange(chance)).encode("utf-8", "replace"))
        )
        path = path.replace(f"<int:{name}>", given).replace(f"<path:{name}>", given)
    if chance.random() < 0.4:
        names = ("served", "page", "tasks", "x")
        query = "&".join(
            f"{pick(names, chance)}={quote(str(strange(chance)).encode('utf-8', 'replace'))}"
            for _ in range(2)
        )
        path = f"{path}?{query}"
    return path


def body_of(rule: Rule, chance: random.Random) -> dict[str, Any]:
    """The body of a request, and its content type."""
    known = BODIES.get(rule.endpoint)
    if known is not None and chance.random() < 0.8:
        body = as_body(changed(pick(known, chance), chance))
        return {"data": body if chance.random() < 0.8 else damaged_bytes(body, chance)}
    if chance.random() < 0.6:
        return {
            "data": {
                name: str(strange(chance)).replace("\ud800", "?") for name in FORM if chance.random() < 0.4
            }
        }
    kinds = (
        "application/json",
        "multipart/form-data; boundary=a",
        "text/xml",
        "\xff",
        "application/x-www-form-urlencoded",
    )
    return {"data": chance.randbytes(chance.randint(0, 200)), "content_type": pick(kinds, chance)}


def headers_of(chance: random.Random) -> dict[str, str]:
    """Credentials of a lead, a viewer, a webhook, or nobody; and what browsers say."""
    users = ("lead:l", "lead:l", "lead:l", "viewer:v", "lead:v", ":", "\xff")
    headers = {}
    if chance.random() < 0.8:
        headers["Authorization"] = "Basic " + base64.b64encode(pick(users, chance).encode()).decode()
    elif chance.random() < 0.5:
        headers["Authorization"] = pick(
            ("Basic", "Basic %%%", "Bearer a.b.c", "Digest username=", "Basic \xff"), chance
        )
    if chance.random() < 0.5:
        headers[SECRET_HEADER] = pick((SECRET, SECRET, "wrong", "\xe4"), chance)
    more = {
        "HX-Request": "true", "Sec-Fetch-Site": "cross-site", "Origin": "null", "Host": "evil.example.com",
        "Accept": "*/*;q=x", "If-None-Match": '"\xff', "Range": "bytes=5-1", "Content-Encoding": "gzip",
    }  # fmt: skip
    return headers | {name: value for name, value in more.items() if chance.random() < 0.08}


def test_every_route(loop: StoredLoop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    app = loop.client.application
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint not in ASKING]
    asking = [rule for rule in app.url_map.iter_rules() if rule.endpoint in ASKING]
    assert {"protocol.webhook", "protocol.metrics", "dashboard.serve_again"} <= {
        rule.endpoint for rule in rules
    }
    assert len(asking) == len(ASKING)

    def one(number: int) -> None:
        chance = random.Random(number)
        rule = asking[number % 3] if number % 50 == 0 else pick(rules, chance)
        method = (
            pick(METHODS, chance)
            if chance.random() < 0.3
            else min((rule.methods or set()) - {"HEAD", "OPTIONS"})
        )
        path, headers = path_of(rule, chance), headers_of(chance)
        answer = loop.client.open(path, method=method, headers=headers, **body_of(rule, chance))
        about = f"{number}: {method} {path} {headers}: {answer.status}"
        assert answer.status_code < 500 or (answer.status_code == 502 and rule.endpoint in ASKING), about
        text = answer.get_data(as_text=True) if answer.mimetype != "image/jpeg" else ""
        assert "Traceback" not in text and 'File "' not in text, about
        if answer.status_code >= 400 and method != "HEAD":
            assert len(text) > 10, about
        answer.close()

    run(one, INPUTS["requests"] // 2)
    assert not [record.getMessage() for record in caplog.records]
