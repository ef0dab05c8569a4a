"""Holds the fake of Kubernetes' API server against the official client.

Usage: kube_check.py KUBECONFIG TOKEN_OF_AN_ACCOUNT
Expects the service account `judge/agent`, whose token that is, to be allowed list and watch of pods everywhere.
Prints one line for each check; exits with 1 at the first that fails.
"""

import sys
import threading
import time
from importlib.metadata import version

from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException

kubeconfig, token = sys.argv[1:3]


def check(what, holds):
    print(("ok     " if holds else "FAILED ") + what)
    if not holds:
        sys.exit(1)


def refused(status, call, *arguments, **more):
    try:
        call(*arguments, **more)
    except ApiException as error:
        return error.status == status
    return False


def pod(name, node, **labels):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
    }


print(f"kubernetes {version('kubernetes')}")
api = config.new_client_from_config(kubeconfig)
core = client.CoreV1Api(api)
check("version", client.VersionApi(api).get_code().major == "1")
core.create_namespace({"metadata": {"name": "shop"}})
check("a namespace has its label", core.read_namespace("shop").metadata.labels["kubernetes.io/metadata.name"] == "shop")

for n in range(25):
    core.create_namespaced_pod("shop", pod(f"p{n:02}", f"node{n % 2}", app="web" if n % 5 else "db"))
check("a pod that is there is a conflict", refused(409, core.create_namespaced_pod, "shop", pod("p00", "node0")))
check("a namespace that is not is not found", refused(404, core.create_namespaced_pod, "none", pod("p", "n")))
check("a name that cannot be is invalid", refused(422, core.create_namespaced_pod, "shop", pod("P_x", "n")))
found = core.list_pod_for_all_namespaces(field_selector="spec.nodeName=node1", label_selector="app in (web)")
check("list by field and label", {p.metadata.name for p in found.items} == {f"p{n:02}" for n in range(1, 25, 2) if n % 5})
check("a field that cannot be asked for", refused(400, core.list_pod_for_all_namespaces, field_selector="spec.image=x"))

names, token_of_page, pages = [], None, 0
while pages == 0 or token_of_page:
    page = core.list_namespaced_pod("shop", limit=10, _continue=token_of_page)
    if pages == 0:
        core.delete_namespaced_pod("p24", "shop")
        core.create_namespaced_pod("shop", pod("p99", "node0"))
    names += [p.metadata.name for p in page.items]
    token_of_page, pages = page.metadata._continue, pages + 1
check("pages are of one moment", pages == 3 and names == [f"p{n:02}" for n in range(25)])

old = core.read_namespaced_pod("p00", "shop")
core.patch_namespaced_pod("p00", "shop", {"metadata": {"annotations": {"a": "1"}}})
check("a stale replace is a conflict", refused(409, core.replace_namespaced_pod, "p00", "shop", old))
fresh = core.read_namespaced_pod("p00", "shop")
check("a patch was merged", fresh.metadata.annotations == {"a": "1"} and fresh.metadata.labels == {"app": "db"})
fresh.status = client.V1PodStatus(phase="Running", pod_ip="10.0.0.1")
core.replace_namespaced_pod_status("p00", "shop", fresh)
running = core.list_namespaced_pod("shop", field_selector="status.podIP=10.0.0.1")
check("a status is written apart", [p.status.phase for p in running.items] == ["Running"])

seen = []
begun = core.list_namespaced_pod("shop")


def watch_them():
    stream = watch.Watch().stream(
        core.list_namespaced_pod,
        "shop",
        resource_version=begun.metadata.resource_version,
        label_selector="app=web",
        timeout_seconds=20,
    )
    for event in stream:
        seen.append((event["type"], event["object"].metadata.name))
        if len(seen) == 4:
            return


thread = threading.Thread(target=watch_them)
thread.start()
time.sleep(0.3)
core.create_namespaced_pod("shop", pod("w1", "node0", app="web"))
core.create_namespaced_pod("shop", pod("w2", "node0", app="other"))
core.patch_namespaced_pod("w1", "shop", {"metadata": {"annotations": {"x": "y"}}})
core.patch_namespaced_pod("w2", "shop", {"metadata": {"labels": {"app": "web"}}})
core.patch_namespaced_pod("w1", "shop", {"metadata": {"labels": {"app": "gone"}}})
thread.join(20)
expected = [("ADDED", "w1"), ("MODIFIED", "w1"), ("ADDED", "w2"), ("DELETED", "w1")]
check("a watch sees what its selector takes, as it comes and goes", seen == expected)



def with_token(token):
    known = client.Configuration()
    config.load_kube_config(kubeconfig, client_configuration=known)
    known.refresh_api_key_hook = None
    known.api_key = {key: f"Bearer {token}" for key in known.api_key}
    return client.CoreV1Api(client.ApiClient(known))


account = with_token(token)
check("an account may do what its role says", len(account.list_pod_for_all_namespaces().items) == 27)
check("and nothing else", refused(403, account.read_namespaced_pod, "p00", "shop"))
check("not even of another kind", refused(403, account.list_namespaced_secret, "shop"))
check("a token that is unknown", refused(401, with_token("wrong").list_node))

dynamic_client = dynamic.DynamicClient(api)
sets = dynamic_client.resources.get(api_version="apps/v1", kind="DaemonSet")
labels = {"app": "a"}
daemon_set = {
    "apiVersion": "apps/v1",
    "kind": "DaemonSet",
    "metadata": {"name": "d", "namespace": "shop"},
    "spec": {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "1"}]}},
    },
}
sets.server_side_apply(body=daemon_set, field_manager="one")
daemon_set["spec"]["template"]["spec"]["containers"][0]["image"] = "2"
check("another manager's field is a conflict", refused(409, sets.server_side_apply, body=daemon_set, field_manager="two"))
sets.server_side_apply(body=daemon_set, field_manager="two", force_conflicts=True)
applied = client.AppsV1Api(api).read_namespaced_daemon_set("d", "shop")
managers = {(m.manager, m.operation) for m in applied.metadata.managed_fields}
check("unless it is forced", applied.spec.template.spec.containers[0].image == "2" and applied.metadata.generation == 2)
check("managers are told", managers == {("one", "Apply"), ("two", "Apply")})
daemon_set["spec"]["selector"]["matchLabels"] = daemon_set["spec"]["template"]["metadata"]["labels"] = {"app": "b"}
check("a selector cannot be changed", refused(422, sets.server_side_apply, body=daemon_set, field_manager="two", force_conflicts=True))

core.delete_collection_namespaced_pod("shop", label_selector="app=web")
left = {p.metadata.labels.get("app") if p.metadata.labels else None for p in core.list_namespaced_pod("shop").items}
check("a collection is deleted", left == {None, "db", "gone"})
core.delete_namespace("shop")
check("a namespace takes all with it", refused(404, client.AppsV1Api(api).read_namespaced_daemon_set, "d", "shop"))
