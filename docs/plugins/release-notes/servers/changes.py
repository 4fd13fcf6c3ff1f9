#!/usr/bin/env python3
"""An MCP server of one tool, without dependencies: the commits since a tag, grouped by what they do.

It speaks JSON-RPC, one message a line, on standard input and output. Standard error is for people: `runner plugins check` shows the
end of it when the server does not answer. It runs where the agent runs: in the repository, as the agent's user, in its sandbox.
"""

import json
import re
import subprocess
import sys

TOOL = {
    "name": "changes_since",
    "description": "Commits since a tag, a branch or a commit, grouped by their first word. Takes the newest tag where none is named.",
    "inputSchema": {
        "type": "object",
        "properties": {"since": {"type": "string", "description": "a tag, a branch or a commit"}},
    },
}
GROUPS = {"add": "Added", "fix": "Fixed", "mend": "Fixed", "remove": "Removed", "deprecate": "Deprecated"}


def git(*arguments):
    """What git prints. What it complains about becomes the tool's answer, so that the agent can do something about it."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, errors="replace", timeout=60, check=False)
    if done.returncode != 0:
        raise ValueError(done.stderr.strip() or f"git ended with {done.returncode}")
    return done.stdout.strip()


def changes_since(since=None):
    # What comes from the model is no option of git's.
    if since is not None and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_./~^-]*", since):
        raise ValueError(f"{since!r} is no tag, branch or commit")
    since = since or git("describe", "--tags", "--abbrev=0")
    groups = {}
    for line in git("log", "--format=%h %s", f"{since}..HEAD", "--").splitlines():
        first = re.sub(r"[^a-z]", "", (line.split() + ["", ""])[1].lower())
        group = next((name for word, name in GROUPS.items() if first.startswith(word)), "Changed")
        groups.setdefault(group, []).append(line)
    if not groups:
        return f"Nothing has changed since {since}."
    return "\n\n".join(f"### {name}\n" + "\n".join(f"- {line}" for line in lines) for name, lines in groups.items())


def answer(method, params):
    if method == "initialize":
        return {
            "protocolVersion": params.get("protocolVersion", "2025-06-18"),
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "changes", "version": "0.1.0"},
        }
    if method == "ping":
        return {}
    if method == "tools/list":
        return {"tools": [TOOL]}
    if method == "tools/call" and params.get("name") == TOOL["name"]:
        try:
            text, failed = changes_since((params.get("arguments") or {}).get("since")), False
        except (ValueError, OSError, subprocess.TimeoutExpired) as error:
            text, failed = str(error), True
        return {"content": [{"type": "text", "text": text}], "isError": failed}
    return None


def main():
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message or "method" not in message:
            continue  # a notification
        result = answer(message["method"], message.get("params") or {})
        reply = {"jsonrpc": "2.0", "id": message["id"]}
        if result is None:
            reply["error"] = {"code": -32601, "message": f"{message['method']} is not offered"}
        else:
            reply["result"] = result
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
