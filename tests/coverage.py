"""What part of the lines tests run, a directory at a time: python3 tests/coverage.py target/coverage.json 85

The file is llvm-cov's export. What it prints is for people; exit 1 where all of src/ and journal/src is below the percentage.
"""

import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
COUNTED = ("src", "journal/src")


def directory(path: pathlib.PurePath) -> str:
    """The room that a file is in: src/driver.rs and src/driver/… are one."""
    crate = next(crate for crate in COUNTED if path.is_relative_to(crate))
    within = path.relative_to(crate).parts
    return f"{crate}/{within[0].removesuffix('.rs')}"


def counted(path: pathlib.PurePath) -> bool:
    # Tests that live beside what they test are not what is measured.
    own = "tests" in path.parts or path.name == "tests.rs"
    return not own and any(path.is_relative_to(crate) for crate in COUNTED)


def main() -> int:
    export, least = sys.argv[1], float(sys.argv[2])
    with open(export, encoding="utf-8") as file:
        files = json.load(file)["data"][0]["files"]
    rooms: dict[str, list[int]] = {}
    for entry in files:
        path = pathlib.PurePath(entry["filename"])
        if path.is_relative_to(ROOT):
            path = path.relative_to(ROOT)
        if counted(path):
            lines = entry["summary"]["lines"]
            room = rooms.setdefault(directory(path), [0, 0])
            room[0] += lines["covered"]
            room[1] += lines["count"]
    for crate in COUNTED:
        if not any(room.startswith(f"{crate}/") for room in rooms):
            print(f"{export} has nothing of {crate}", file=sys.stderr)
            return 1
    for room, (covered, lines) in sorted(rooms.items()):
        print(f"{room:<28} {covered / lines:7.1%}  {covered} of {lines} lines" if lines else f"{room:<28}    none")
    covered, lines = (sum(room[i] for room in rooms.values()) for i in (0, 1))
    percent = 100 * covered / lines
    print(f"{'all':<28} {percent:6.1f}%  {covered} of {lines} lines; {least:g}% are asked for")
    return 0 if percent >= least else 1


if __name__ == "__main__":
    sys.exit(main())
