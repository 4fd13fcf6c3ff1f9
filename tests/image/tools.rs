//! The tools that an agent finds in the image: each answers, and compilers compile, where nothing but the home can be written.

use crate::container::{hardened, image};

const CONTAINERFILE: &str = include_str!("../../Containerfile");
/// Empty: then every version will do.
pub(crate) const ANY: &str = "";

/// What follows `begins` in the Containerfile, up to the version's end: what is pinned there.
pub(crate) fn pinned(begins: &str) -> &'static str {
    let rest = CONTAINERFILE.split(begins).nth(1).unwrap();
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap();
    let version = &rest[..end];
    assert!(!version.is_empty(), "{begins} has no version");
    version
}

#[test]
fn every_tool_answers_its_version_to_any_user_of_the_group_with_an_empty_home() {
    let tools = [
        ("bash --version", "GNU bash, version ", ANY),
        ("claude --version", "", pinned("ARG CLAUDE_CODE_VERSION=")),
        ("g++ --version", "g++ (Debian ", ANY),
        ("gcc --version", "gcc (Debian ", ANY),
        ("gh --version", "gh version 2.", ANY),
        ("git --version", "git version 2.", ANY),
        ("go version", "go version go", pinned("FROM docker.io/library/golang:")),
        ("jq --version", "jq-", pinned("FROM ghcr.io/jqlang/jq:")),
        ("make --version", "GNU Make ", ANY),
        ("pkg-config --version", "", ANY),
        ("rg --version", "ripgrep ", ANY),
        ("runner --version", "runner ", env!("CARGO_PKG_VERSION")),
        // Debian's, which may stand in for its publisher's, has one version at a time.
        ("yq --version", "yq (https://github.com/mikefarah/yq/) version v4.", ANY),
    ];
    for user in ["1001:1001", "1000:1001", "4242:1001"] {
        each_answers(&image(), user, &tools);
    }
}

/// Runs each command in one hardened container: its first line has to begin with the second, and go on with the third.
pub(crate) fn each_answers(image: &str, user: &str, tools: &[(&str, &str, &str)]) {
    let lines: Vec<String> = tools
        .iter()
        .map(|(command, ..)| format!("{command} 2>&1 | head -1"))
        .collect();
    let printed = hardened(image, user, &lines.join("\n"));
    let answers: Vec<&str> = printed.lines().collect();
    assert_eq!(answers.len(), tools.len(), "{user}: {printed}");
    for ((command, name, version), answer) in tools.iter().zip(answers) {
        let said = answer.strip_prefix(name).and_then(|rest| rest.strip_prefix(version));
        let next = said.and_then(|rest| rest.chars().next());
        // A version that only begins with the one that is pinned is another.
        let is_it = said.is_some() && (version.is_empty() || !next.is_some_and(|c| c.is_ascii_digit() || c == '.'));
        assert!(is_it, "{user}: {command} answers {answer:?}, not {name}{version}");
    }
}

/// Older ones let a repository run programs, or cannot do what the runner asks of them.
#[test]
fn git_is_one_that_the_runner_takes() {
    let git = hardened(&image(), "1001:1001", "git --version");
    let version = git.strip_prefix("git version 2.").unwrap();
    let minor: u32 = version.split('.').next().unwrap().parse().unwrap();
    assert!(minor >= 39, "{git}");
}

#[test]
fn jq_yq_and_ripgrep_work() {
    let work = "cd; printf 'a: [1, 2]\\n' > it.yaml; yq -o json it.yaml | jq -c '.a | map(. + 1)'; rg --no-line-number '\\[1' .";
    assert_eq!(
        hardened(&image(), "1001:1001", work),
        "[2,3]\n./it.yaml:a: [1, 2]",
        "of one file, by each"
    );
}

/// A race detector takes a part of Go's own, a C compiler and a linker; `go tool` builds what it is asked for.
#[test]
fn go_vets_tests_for_races_through_cgo_and_keeps_to_its_own_toolchain() {
    let work = r#"
mkdir ~/p && cd ~/p
printf 'module example.org/p\n\ngo 1.24\n' > go.mod
cat > p.go <<'GO'
package p

// static int two(void) { return 2; }
import "C"

func Two() int { return int(C.two()) }
GO
cat > p_test.go <<'GO'
package p

import "testing"

var n int

func TestTwo(t *testing.T) {
	if Two() != 2 {
		t.Fatal(Two())
	}
}

func TestRace(t *testing.T) {
	done := make(chan bool)
	go func() { n++; close(done) }()
	n++
	<-done
}
GO
go vet ./...
go test -run Two ./... | grep -o '^ok'
go test -race -run Race ./... 2>&1 | grep -o 'WARNING: DATA RACE' | head -1
go tool nm -h 2>&1 | grep -o '^usage: go tool nm'
printf 'module example.org/p\n\ngo 1.99\n' > go.mod
go vet ./... 2>&1 | grep -o 'GOTOOLCHAIN=local'
go env GOCACHE GOPATH GOFLAGS"#;
    assert_eq!(
        hardened(&image(), "1001:1001", work),
        "ok\nWARNING: DATA RACE\nusage: go tool nm\nGOTOOLCHAIN=local\n/home/runner/.cache/go-build\n/home/runner/go"
    );
}

#[test]
fn make_builds_a_program_of_c_plus_plus() {
    let work = r#"
cd
printf 'hello: hello.cc\n\tg++ -O1 -pthread -o $@ $<\n' > Makefile
cat > hello.cc <<'CC'
#include <iostream>
#include <thread>
int main() { std::thread([] { std::cout << "hello\n"; }).join(); }
CC
make --silent hello && ./hello"#;
    assert_eq!(hardened(&image(), "1001:1001", work), "hello");
}

#[test]
fn the_roots_of_trust_are_debians_alone() {
    let count = "grep -c 'BEGIN CERTIFICATE' /etc/ssl/certs/ca-certificates.crt; \
                 find /usr/share/ca-certificates -name '*.crt' | wc -l; find /usr/local/share/ca-certificates ! -type d | wc -l";
    let printed = hardened(&image(), "1001:1001", count);
    let [bundle, debian, local] = printed.lines().collect::<Vec<_>>()[..] else {
        panic!("{printed}")
    };
    assert_eq!((bundle, local), (debian, "0"));
    assert!(debian.parse::<u32>().unwrap() > 100, "{debian}");
}
