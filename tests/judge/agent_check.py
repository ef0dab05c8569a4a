"""Holds the agent's API against clients of others: prometheus_client's parser, and websockets.

Usage: agent_check.py METRICS_URL API_URL TOKEN FILTER COUNT
Reads /metrics, then follows items by WebSocket until COUNT of them have come. Prints the metrics as JSON, a line for each
family: name, type, labels; and one line for each check. Exits with 1 at the first that fails.
"""

import json
import sys
import urllib.parse
import urllib.request
from importlib.metadata import version

from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

metrics_url, api_url, token, wanted, count = sys.argv[1:6]


def check(what, holds):
    print(("ok     " if holds else "FAILED ") + what)
    if not holds:
        sys.exit(1)


print(f"prometheus-client {version('prometheus-client')}, websockets {version('websockets')}")
with urllib.request.urlopen(metrics_url + "/metrics") as answer:
    check("the media type of the text format 0.0.4", answer.headers["content-type"].startswith("text/plain; version=0.0.4"))
    text = answer.read().decode()
announced = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")]
check("each metric is announced once", len(announced) == len(set(announced)))
check("with a help text", [line.split()[2] for line in text.splitlines() if line.startswith("# HELP ")] == announced)
families = list(text_string_to_metric_families(text))
samples = [(s.name, tuple(sorted(s.labels.items()))) for family in families for s in family.samples]
check("no sample comes twice", len(samples) == len(set(samples)))
ours = [f for f in families if f.name.startswith(("remora_", "process_"))]
for family in ours:
    named = {sample.name for sample in family.samples}
    full = family.name + "_total" if family.type == "counter" else family.name
    check(f"{full} is named as its type asks", named <= {full} and (family.type == "counter") == (full in announced and full.endswith("_total")))
    labels = sorted({label for sample in family.samples for label in sample.labels})
    print(json.dumps({"name": full, "type": family.type, "labels": labels}))
read = {name for f in families for name in (f.name, f.name + "_total")}
check("all that is announced was read", set(announced) <= read and len(families) == len(announced))

query = urllib.parse.urlencode({"filter": wanted, "recent": 1000})
socket = api_url.replace("http://", "ws://") + "/api/items/ws?" + query
bearer = {"Authorization": f"Bearer {token}"}
for what, headers, origin, status in [
    ("no token", {}, None, 401),
    ("a wrong token", {"Authorization": "Bearer wrong"}, None, 401),
    ("a page of another site", bearer, "http://evil.example", 403),
]:
    try:
        with connect(socket, additional_headers=headers, origin=origin):
            check(what, False)
    except InvalidStatus as refusal:
        check(what, refusal.response.status_code == status)
with connect(socket, additional_headers=bearer, origin=api_url) as follower:
    seen = [json.loads(follower.recv(timeout=60)) for _ in range(int(count))]
    check("items, each once", len({item["id"] for item in seen}) == len(seen))
    follower.send("what nobody asked for")
    check("a ping is answered", follower.ping().wait(60))
try:
    with connect(api_url.replace("http://", "ws://") + "/api/items/ws?filter=1%2B", additional_headers=bearer):
        check("a filter that is none is refused", False)
except InvalidStatus as refusal:
    check("a filter that is none is refused", refusal.response.status_code == 400)
