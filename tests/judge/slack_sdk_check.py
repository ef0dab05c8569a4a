"""Holds the Slack fake against Slack's official client: what `slack_sdk` does must work, and its errors must come.

Usage: slack_sdk_check.py API_URL WEBHOOK_URL TOKEN CHANNEL NOT_JOINED_CHANNEL
Prints one line for each check; exits with 1 at the first that fails.
"""

import sys
import urllib.request

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.builtin_handlers import RateLimitErrorRetryHandler
from slack_sdk.version import __version__
from slack_sdk.webhook import WebhookClient

api_url, webhook_url, token, channel, not_joined = sys.argv[1:6]
origin = api_url.removesuffix("api/").rstrip("/")
client = WebClient(token=token, base_url=api_url)


def check(what, holds):
    print(("ok     " if holds else "FAILED ") + what)
    if not holds:
        sys.exit(1)


def error_of(call, **arguments):
    try:
        call(**arguments)
    except SlackApiError as error:
        return error.response["error"]
    return "ok"


def download(file_id):
    with urllib.request.urlopen(f"{origin}/_fake/files/{file_id}") as response:
        return response.read()


print(f"slack_sdk {__version__}")
check("auth.test", client.auth_test()["ok"])

posted = client.chat_postMessage(
    channel=channel,
    attachments=[{"fallback": "f", "color": "#ff0000", "pretext": "p", "text": "t",
                  "fields": [{"title": "Service", "value": "shop", "short": True}]}],
)
check("chat.postMessage gives ts and channel", posted["ts"] and posted["channel"] == channel)
reply = client.chat_postMessage(channel=channel, text="reply", thread_ts=posted["ts"])
check("a reply in its thread", reply["ts"] != posted["ts"])

content = bytes(range(256)) * 1000
done = client.files_upload_v2(channel=channel, thread_ts=posted["ts"], filename="a.pcap", file=content, title="A")
check("files_upload_v2, one file", download(done["files"][0]["id"]) == content)
done = client.files_upload_v2(
    channel=channel,
    thread_ts=posted["ts"],
    file_uploads=[{"filename": "b.json", "content": "{}"}, {"filename": "c.pcap", "file": content}],
)
check("files_upload_v2, two files", [download(f["id"]) for f in done["files"]] == [b"{}", content])
info = client.files_info(file=done["files"][0]["id"])["file"]
check("files.info tells the share", channel in info["shares"]["public"])

check("empty file", error_of(client.files_upload_v2, channel=channel, filename="e", content="") == "invalid_arguments")
check("not_in_channel", error_of(client.files_upload_v2, channel=not_joined, filename="e", content="x") == "not_in_channel")
check("conversations.join", client.conversations_join(channel=not_joined)["ok"])
check("then it works", error_of(client.files_upload_v2, channel=not_joined, filename="e", content="x") == "ok")
check("no_text", error_of(client.chat_postMessage, channel=channel, attachments=[{}]) == "no_text")
check("channel_not_found", error_of(client.chat_postMessage, channel="C0NOTTHERE", text="t") == "channel_not_found")
foreign = WebClient(token="xoxb-other", base_url=api_url)
check("invalid_auth", error_of(foreign.chat_postMessage, channel=channel, text="t") == "invalid_auth")

answer = WebhookClient(webhook_url).send(text="t", attachments=[{"text": "a", "color": "good"}])
check("webhook", (answer.status_code, answer.body) == (200, "ok"))
answer = WebhookClient(webhook_url + "x").send(text="t")
check("webhook that is not there", (answer.status_code, answer.body) == (404, "no_service"))

fault = b'{"method": "chat.postMessage", "times": 1, "fault": {"status": {"code": 429, "retry_after": 1}}}'
request = urllib.request.Request(f"{origin}/_fake/fail", data=fault, headers={"Content-Type": "application/json"})
urllib.request.urlopen(request).close()
client.retry_handlers.append(RateLimitErrorRetryHandler(max_retry_count=1))
check("its rate limit handler gets over a 429", client.chat_postMessage(channel=channel, text="late")["ok"])
