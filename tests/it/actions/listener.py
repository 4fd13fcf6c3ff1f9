#!/usr/bin/env python3
"""Stands in for the official listener: the same environment in, the same words, hooks, signals and exit codes out.

What each launch does is in plan.json beside bin: a list, whose last entry counts for all further launches.
  {"exit": N}                no job: exit with N
  {"idle": true}             no job: wait until SIGINT, then exit 0
  {"job": "SHELL", ...}      run one job. "after": FILE that is waited for before GitHub has one; "deaf": SIGINT is ignored; "mute": no hooks; "linger": FILE that is waited for
                             once the job is over; "keeps": GitHub does not remove the runner by itself
"""
import base64
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.request

root = pathlib.Path(__file__).resolve().parent.parent


def note(name, text):
    with open(root / name, "a") as file:
        file.write(text + "\n")


def say(text):
    print(time.strftime("%Y-%m-%d %H:%M:%SZ: ", time.gmtime()) + text, flush=True)


def ask(path):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        return opener.open(settings["ServerUrl"] + path, data=b"", timeout=30).status
    except urllib.error.HTTPError as refused:
        return refused.code


def hook(moment):
    if plan.get("mute"):
        return
    path = os.environ["ACTIONS_RUNNER_HOOK_JOB_" + moment]
    assert path.endswith(".sh") and os.path.isabs(path), path
    subprocess.run(["bash", "-e", path], env=job_environment, check=True, stdout=sys.stderr)


if sys.argv[1:] == ["--version"]:
    print("a stand-in")
    sys.exit()
config = os.environ["ACTIONS_RUNNER_INPUT_JITCONFIG"]
files = json.loads(base64.b64decode(config))
settings = json.loads(base64.b64decode(files[".runner"]))
job_environment = {
    name: value for name, value in os.environ.items() if not name.startswith("ACTIONS_RUNNER_INPUT_")
} | {
    "RUNNER_OS": "Linux",
    "RUNNER_NAME": settings["AgentName"],
    "GITHUB_ACTIONS": "true",
    "GITHUB_REPOSITORY": "octo/hello",
    "GITHUB_WORKFLOW": "CI",
    "GITHUB_JOB": "build",
    "GITHUB_RUN_ID": "4711",
    "GITHUB_RUN_ATTEMPT": "1",
}
with open(root / "plan.json") as file:
    plans = json.load(file)
launches = root / "launches"
launched = len(launches.read_text().splitlines()) if launches.exists() else 0
note("launches", json.dumps({"name": settings["AgentName"], "update": settings.get("DisableUpdate"), "argv": sys.argv[1:]}))
note("environment", json.dumps(job_environment))
plan = plans[min(launched, len(plans) - 1)]
told = []
signal.signal(signal.SIGINT, lambda *_: (told.append("INT"), note("signals", "INT")))
signal.signal(signal.SIGTERM, lambda *_: (told.append("TERM"), note("signals", "TERM")))

if "exit" in plan:
    print("standing in", file=sys.stderr)
    sys.exit(plan["exit"])
if ask(f"/online/{settings['AgentId']}") != 200:
    say("Failed to create a session. The runner registration has been deleted from the server, please re-configure.")
    sys.exit(1)
say("Listening for Jobs")
if "job" not in plan:
    while not told:
        time.sleep(0.02)
    say("Exiting...")
    sys.exit(0)

while "after" in plan and not (root / plan["after"]).exists():
    time.sleep(0.02)
say("Running job: build completed with result: Abandoned")
hook("STARTED")
note("jobs", "begun")
result = None
# As the worker's: in a session of its own.
steps = subprocess.Popen(["sh", "-c", plan["job"]], env=job_environment, cwd=root, start_new_session=True)
while result is None:
    if steps.poll() is not None:
        result = "Succeeded" if steps.returncode == 0 else "Failed"
    elif told and not plan.get("deaf"):
        steps.kill()
        steps.wait()
        result = "Canceled"
    else:
        time.sleep(0.02)
hook("COMPLETED")
while "linger" in plan and not (root / plan["linger"]).exists():
    time.sleep(0.02)
if not plan.get("keeps"):
    ask(f"/done/{settings['AgentId']}")
say(f"Job build completed with result: {result}")
