"""What docs/kubernetes, docs/actions/kubernetes.yaml and compose.yaml promise, held against schemas, the settings and each other.

    python3 tests/deploy/manifests.py            every complaint on a line of its own; exit 1 if there is one
    python3 tests/deploy/manifests.py --controls breaks each promise in a copy, and wants the complaint for it

`.ci/lint` runs both. Nothing here asks a network or a cluster.
"""

import copy
import json
import pathlib
import re
import sys

import jsonschema
import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The oldest that has podFailurePolicy as a stable feature, and the newest that the schemas have.
VERSIONS = ("1.31", kubernetes_validate.latest_version())
CUSTOM = {"SandboxTemplate": "sandboxtemplate.json", "PodMonitor": "podmonitor.json"}
UID = 1001
# Under it, the runner refuses a seal key (docs/operations.md, "The seal key").
SEAL_KEY_MIN = 32


def load():
    """Every object by file and kind, the compose file, and the names of the settings."""
    world = {"objects": {}, "compose": yaml.safe_load((ROOT / "compose.yaml").read_text())}
    for file in sorted((ROOT / "docs/kubernetes").glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            world["objects"][f"{file.name}/{document['kind']}"] = document
    world["actions"] = yaml.safe_load((ROOT / "docs/actions/kubernetes.yaml").read_text())
    world["variables"] = set(re.findall(r"`(RUNNER_[A-Z_]+)`", (ROOT / "docs/operators.md").read_text()))
    settings = (ROOT / "docs/settings.md").read_text()
    world["settings"] = set(re.findall(r"`(RUNNER_[A-Z_]+)`", settings))
    # The first cell of each row of the tables below a heading on exit codes.
    world["codes"] = {}
    for name in ("operations.md", "kubernetes.md"):
        part = re.split(r"^## Exit codes.*$", (ROOT / "docs" / name).read_text(), flags=re.MULTILINE)[1]
        world["codes"][name] = set(re.findall(r"^\| ([0-9]+)\b", part.split("\n## ")[0], flags=re.MULTILINE)) - {"137"}
    return world


def of_kind(world, kind):
    return next(o for name, o in world["objects"].items() if name.endswith(f"/{kind}"))


def pods(world):
    """Each pod specification with the labels that its pods have."""
    sandbox = of_kind(world, "SandboxTemplate")["spec"]["podTemplate"]
    job = of_kind(world, "Job")["spec"]["template"]
    return {"SandboxTemplate": sandbox, "Job": job}


def environment(container):
    return {e["name"]: e.get("value", "") for e in container["env"]}


def seconds(duration):
    number, unit = re.fullmatch(r"([0-9]+)(s|m)", duration).groups()
    return int(number) * {"s": 1, "m": 60}[unit]


def schemas(world):
    for name, document in world["objects"].items():
        kind = document["kind"]
        if kind in CUSTOM:
            schema = json.loads((ROOT / "tests/deploy/schemas" / CUSTOM[kind]).read_text())
            for error in jsonschema.Draft202012Validator(schema).iter_errors(document):
                yield f"{name}: {error.json_path}: {error.message}"
        else:
            yield from core(name, document)
    # What a custom resource has of Kubernetes' own.
    spec = of_kind(world, "SandboxTemplate")["spec"]
    yield from core(
        "SandboxTemplate's pod",
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec["podTemplate"]["spec"]},
    )
    yield from core(
        "SandboxTemplate's policy",
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "x"},
            "spec": {"podSelector": {}, **spec.get("networkPolicy", {})},
        },
    )


def core(name, document):
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            where = ".".join(str(part) for part in error.path)
            yield f"{name} in {version}: {where}: {error.message}"


def hardened(world):
    for name, template in pods(world).items():
        spec = template["spec"]
        yield from locked(name, spec, "Never")
        for container in spec["containers"]:
            given = environment(container)
            if spec["terminationGracePeriodSeconds"] <= seconds(given["RUNNER_TERM_GRACE"]):
                yield f"{name}: terminationGracePeriodSeconds leaves RUNNER_TERM_GRACE no time"
            volumes = {v["name"]: v for v in spec["volumes"]}
            token = volumes.get(mounts(container).get("/run/runner"), {}).get("emptyDir", {})
            if token.get("medium") != "Memory":
                yield f"{name}: /run/runner is not in memory"
            for variable, value in given.items():
                if variable.endswith("_FILE") and not value.startswith("/run/secrets/runner/"):
                    yield f"{name}: {variable} is not below the mounted secret"


def locked(name, spec, restarts):
    """That nobody in a pod may more than the runner needs."""
    wants = {
        "restartPolicy": restarts,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
    }
    yield from differs(name, spec, wants)
    wants = {"runAsNonRoot": True, "runAsUser": UID, "runAsGroup": UID, "fsGroup": UID}
    yield from differs(name, spec["securityContext"], wants | {"seccompProfile": {"type": "RuntimeDefault"}})
    for container in spec.get("initContainers", []) + spec["containers"]:
        wants = {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        }
        yield from differs(name, container["securityContext"], wants)
        for bound in ("requests", "limits"):
            for what in ("cpu", "memory"):
                if what not in container["resources"].get(bound, {}):
                    yield f"{name}: no {bound} for {what}"


def mounts(container):
    return {m["mountPath"]: m["name"] for m in container["volumeMounts"]}


def actions(world):
    job, name = world["actions"], "actions"
    yield from core(name, job)
    spec = job["spec"]["template"]["spec"]
    yield from locked(name, spec, "OnFailure")
    (copies,), (runner,) = spec["initContainers"], spec["containers"]
    given = environment(runner)
    for variable in given:
        if variable not in world["variables"]:
            yield f"{name}: {variable} is no variable of docs/operators.md"
        if variable.endswith("_FILE"):
            yield f"{name}: a job could read the file that {variable} names"
    if spec["terminationGracePeriodSeconds"] <= seconds(given["RUNNER_TERM_GRACE"]):
        yield f"{name}: terminationGracePeriodSeconds leaves RUNNER_TERM_GRACE no time"
    if mounts(copies).get("/listener") != mounts(runner).get("/opt/actions-runner"):
        yield f"{name}: the listener is copied to another volume"
    for path in ("/var/lib/runner", "/home/runner", "/tmp"):
        if path not in mounts(runner):
            yield f"{name}: nothing may be written to {path}"
    if copies["image"] != runner["image"]:
        yield f"{name}: the listener is of another image"


def differs(name, found, wants):
    for field, want in wants.items():
        if found.get(field) != want:
            yield f"{name}: {field} is {found.get(field)!r}, not {want!r}"


def settings(world):
    for name, template in pods(world).items():
        for container in template["spec"]["containers"]:
            yield from unknown(world, name, environment(container))
    yield from unknown(world, "compose.yaml", world["compose"]["services"]["runner"]["environment"])
    for name, template, way in (("SandboxTemplate", "emptyDir", "report"), ("Job", "persistentVolumeClaim", "park")):
        spec = pods(world)[name]["spec"]
        state = next(v for v in spec["volumes"] if v["name"] == "state")
        if template not in state:
            yield f"{name}: the state directory is on no {template}"
        if environment(spec["containers"][0])["RUNNER_ON_TERM"] != way:
            yield f"{name}: RUNNER_ON_TERM is not {way}, though the state is on an {template}"
    # Its volumes have names, and stay.
    if world["compose"]["services"]["runner"]["environment"]["RUNNER_ON_TERM"] != "park":
        yield "compose.yaml: RUNNER_ON_TERM is not park, though the state is on a volume"


def unknown(world, name, given):
    for variable in given:
        if variable.startswith("RUNNER_") and variable not in world["settings"]:
            yield f"{name}: {variable} is no setting of docs/settings.md"


def secrets(world):
    secret = of_kind(world, "Secret")["stringData"]
    for key, value in secret.items():
        if not re.fullmatch(r"<[a-z ]+>", value):
            yield f"secrets.yaml: {key} is no placeholder"
    if len(secret["seal-key"]) >= SEAL_KEY_MIN:
        yield "secrets.yaml: the runner would take the placeholder for a seal key"
    for name, template in pods(world).items():
        spec = template["spec"]
        used = set()
        for volume in spec["volumes"]:
            sources = [volume["secret"]] if "secret" in volume else []
            sources += [s["secret"] for s in volume.get("projected", {}).get("sources", [])]
            used |= {item["key"] for source in sources for item in source["items"]}
        for container in spec["containers"]:
            for variable in container["env"]:
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                used |= {reference["key"]} if reference else set()
        for key in used - secret.keys():
            yield f"{name}: secrets.yaml has no {key}"


def exits(world):
    rules = of_kind(world, "Job")["spec"]["podFailurePolicy"]["rules"]
    found = [(r["action"], tuple(r.get("onExitCodes", {}).get("values", ["DisruptionTarget"]))) for r in rules]
    if found != [("FailJob", (1, 2, 3)), ("Ignore", ("DisruptionTarget",)), ("Ignore", (75,))]:
        yield f"Job: podFailurePolicy is {found}"
    for code in world["codes"]["operations.md"] ^ world["codes"]["kubernetes.md"]:
        yield f"exit code {code} is in one of the tables of operations.md and kubernetes.md"


def network(world):
    policy = of_kind(world, "NetworkPolicy")["spec"]
    inline = of_kind(world, "SandboxTemplate")["spec"]["networkPolicy"]
    for way in ("ingress", "egress"):
        if policy[way] != inline[way]:
            yield f"SandboxTemplate: {way} is not that of networkpolicy.yaml"
    monitor = of_kind(world, "PodMonitor")["spec"]
    for name, template in pods(world).items():
        labels = template["metadata"]["labels"]
        for who, selector in (("networkpolicy.yaml", policy["podSelector"]), ("podmonitor.yaml", monitor["selector"])):
            if not selector["matchLabels"].items() <= labels.items():
                yield f"{name}: {who} does not select its pods"
    ports = {p["name"]: p for c in pods(world)["SandboxTemplate"]["spec"]["containers"] for p in c["ports"]}
    for endpoint in monitor["podMetricsEndpoints"]:
        if endpoint["port"] not in ports:
            yield f"podmonitor.yaml: no pod has a port {endpoint['port']}"


def compose(world):
    service = world["compose"]["services"]["runner"]
    wants = {
        "user": f"{UID}:{UID}",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "restart": "on-failure:5",
    }
    yield from differs("compose.yaml", service, wants)
    if seconds(service["stop_grace_period"]) <= seconds(service["environment"]["RUNNER_TERM_GRACE"]):
        yield "compose.yaml: stop_grace_period leaves RUNNER_TERM_GRACE no time"
    for port in service["ports"]:
        if not port.startswith("127.0.0.1:"):
            yield f"compose.yaml: {port} is open to the network"
    for secret in world["compose"]["secrets"].values():
        if not secret["file"].startswith("./secrets/"):
            yield f"compose.yaml: {secret['file']} is not below secrets/, which git and the build leave out"
    for ignore in (".gitignore", ".dockerignore"):
        if not {"secrets", "/secrets"} & set((ROOT / ignore).read_text().split()):
            yield f"{ignore}: it does not leave secrets out"


CHECKS = (schemas, hardened, settings, secrets, exits, network, compose, actions)


def complaints(world):
    return [complaint for check in CHECKS for complaint in check(world)]


def controls():
    """Each promise broken once, with a word of the complaint that has to come."""

    def pod(name):
        return lambda world: pods(world)[name]["spec"]

    def container(name):
        return lambda world: pods(world)[name]["spec"]["containers"][0]

    def kind(name):
        return lambda world: of_kind(world, name)

    def put(where, *path):
        *path, value = path

        def change(world):
            place = where(world)
            for part in path[:-1]:
                place = place[part]
            place[path[-1]] = value

        return change

    service = lambda world: world["compose"]["services"]["runner"]
    of_actions = lambda world: world["actions"]["spec"]["template"]["spec"]
    return (
        ("restartPolicy", put(pod("Job"), "restartPolicy", "OnFailure")),
        ("Additional properties", put(kind("SandboxTemplate"), "spec", "podTemplates", {})),
        ("SandboxTemplate's pod in", put(container("SandboxTemplate"), "imagePullPolice", "Always")),
        ("PodMonitor: $.spec", put(kind("PodMonitor"), "spec", "endpoints", [])),
        ("Job in 1.31", put(kind("Job"), "spec", "backoffLimit", "three")),
        ("readOnlyRootFilesystem", put(container("Job"), "securityContext", "readOnlyRootFilesystem", False)),
        ("automountServiceAccountToken", put(pod("SandboxTemplate"), "automountServiceAccountToken", True)),
        ("RUNNER_TERM_GRACE no time", put(pod("SandboxTemplate"), "terminationGracePeriodSeconds", 20)),
        ("is no setting", put(container("Job"), "env", 0, "name", "RUNNER_STATE_DIRECTORY")),
        ("is not in memory", lambda world: pod("Job")(world)["volumes"][1]["emptyDir"].pop("medium")),
        ("no limits for memory", lambda world: container("Job")(world)["resources"]["limits"].pop("memory")),
        ("on no persistentVolumeClaim", put(pod("Job"), "volumes", 0, {"name": "state", "emptyDir": {}})),
        ("is no placeholder", put(kind("Secret"), "stringData", "model-key", "sk-real-looking-0123456789")),
        ("for a seal key", put(kind("Secret"), "stringData", "seal-key", f"<{'a' * 32}>")),
        ("has no model-key", lambda world: kind("Secret")(world)["stringData"].pop("model-key")),
        ("podFailurePolicy is", lambda world: kind("Job")(world)["spec"]["podFailurePolicy"]["rules"].reverse()),
        ("exit code 75 is in one", lambda world: world["codes"]["kubernetes.md"].remove("75")),
        ("egress is not that", lambda world: kind("NetworkPolicy")(world)["spec"]["egress"].pop()),
        ("does not select", put(kind("PodMonitor"), "spec", "selector", "matchLabels", {"app": "other"})),
        ("no pod has a port", put(kind("PodMonitor"), "spec", "podMetricsEndpoints", 0, "port", "metrics")),
        ("restart is", put(service, "restart", "always")),
        ("open to the network", put(service, "ports", ["8888:8888"])),
        ("not park, though the state is on a volume", put(service, "environment", "RUNNER_ON_TERM", "report")),
        ("stop_grace_period", put(service, "stop_grace_period", "10s")),
        ("actions in 1.31", put(of_actions, "containers", 0, "volumesMounts", [])),
        ("actions: readOnly", put(of_actions, "initContainers", 0, "securityContext", "readOnlyRootFilesystem", False)),
        ("actions: restartPolicy", put(of_actions, "restartPolicy", "Never")),
        ("actions: RUNNER_URL is no", put(of_actions, "containers", 0, "env", 0, "name", "RUNNER_URL")),
        ("could read the file", put(of_actions, "containers", 0, "env", 2, "name", "RUNNER_ACTIONS_APP_KEY_FILE")),
        ("RUNNER_TERM_GRACE no time", put(of_actions, "terminationGracePeriodSeconds", 3600)),
        ("copied to another volume", put(of_actions, "initContainers", 0, "volumeMounts", 0, "name", "home")),
        ("nothing may be written to /tmp", lambda world: of_actions(world)["containers"][0]["volumeMounts"].pop()),
        ("of another image", put(of_actions, "initContainers", 0, "image", "alpine")),
    )


def main():
    world = load()
    if sys.argv[1:] == ["--controls"]:
        missed = 0
        for word, change in controls():
            broken = copy.deepcopy(world)
            change(broken)
            if not any(word in complaint for complaint in complaints(broken)):
                missed += 1
                print(f"not noticed: {word}", file=sys.stderr)
        print(f"manifests: {len(controls())} broken promises, {missed} not noticed")
        return 1 if missed else 0
    found = complaints(world)
    for complaint in found:
        print(complaint, file=sys.stderr)
    print(f"manifests: {len(world['objects']) + 1} objects against Kubernetes {' and '.join(VERSIONS)}, {len(found)} complaints")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
