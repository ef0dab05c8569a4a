"""Holds the Elasticsearch fake against the official clients of Elasticsearch and OpenSearch.

Usage: elastic_check.py URL API_KEY
Prints one line for each check; exits with 1 at the first that fails.
"""

import sys
from importlib.metadata import version

from elasticsearch import ApiError, Elasticsearch, helpers
from opensearchpy import OpenSearch
from opensearchpy import helpers as opensearch_helpers

url, api_key = sys.argv[1:3]


def check(what, holds):
    print(("ok     " if holds else "FAILED ") + what)
    if not holds:
        sys.exit(1)


print(f"elasticsearch {version('elasticsearch')}, opensearch-py {version('opensearch-py')}")
client = Elasticsearch(url, api_key=api_key)
check("info, and the product check", client.info()["version"]["number"])

done = client.bulk(operations=[{"create": {"_index": "judge", "_id": "1"}}, {"n": 1}])
check("bulk create", not done["errors"] and done["items"][0]["create"]["status"] == 201)
check("the document is there", client.get(index="judge", id="1")["_source"] == {"n": 1})
again = client.bulk(operations=[{"create": {"_index": "judge", "_id": "1"}}, {"n": 2}])
check("the same id again is a conflict", again["errors"] and again["items"][0]["create"]["status"] == 409)

stream = "logs-judge-default"
mixed = [
    {"_op_type": "create", "_index": stream, "_id": "a", "@timestamp": "2026-11-21T14:00:00Z"},
    {"_op_type": "create", "_index": stream, "_id": "b"},
    {"_op_type": "index", "_index": stream, "_id": "c", "@timestamp": "2026-11-21T14:00:00Z"},
    {"_op_type": "create", "_index": "Judge", "_id": "d"},
    {"_op_type": "create", "_index": "judge", "_id": "e", "number": "many"},
]
good, errors = helpers.bulk(client, mixed, raise_on_error=False)
check("helpers.bulk counts what was taken", good == 1)
kinds = [next(iter(error.values()))["error"]["type"] for error in errors]
check(
    "each refusal has its own word",
    kinds == [
        "document_parsing_exception",
        "illegal_argument_exception",
        "invalid_index_name_exception",
        "document_parsing_exception",
    ],
)

template = {"index_patterns": ["judge-*"], "template": {"mappings": {"properties": {"n": {"type": "long"}}}}}
check("an index template", client.indices.put_index_template(name="judge", **template)["acknowledged"])

try:
    Elasticsearch(url, api_key="wrong").info()
    check("a wrong key is refused", False)
except ApiError as error:
    check("a wrong key is refused", error.meta.status == 401)

other = OpenSearch(url, headers={"Authorization": f"ApiKey {api_key}"})
actions = [{"_op_type": "create", "_index": "judge", "_id": f"o{n}", "n": n} for n in range(1000)]
good, errors = opensearch_helpers.bulk(other, actions, raise_on_error=False)
check("opensearch-py: 1,000 documents", good == 1000 and not errors)
check("opensearch-py: one of them", other.get(index="judge", id="o7")["_source"] == {"n": 7})
