//! A reader's desk: a home, an empty directory, `runner` in the path, and one shell.

use std::fmt::Write;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::harness::{NEVER, RUNNER};

/// The ports that the pages name: of the listener, and of a task API that is not there.
const PORTS: [u16; 2] = [8888, 8081];

pub(super) struct Desk {
    dir: TempDir,
    /// Which ports stand for those of [`PORTS`] here: others run tests on this machine, too.
    ports: [u16; 2],
}

/// What one block came to.
pub(super) struct Printed {
    /// None where the shell ended before it.
    pub(super) code: Option<i32>,
    pub(super) text: String,
}

/// Ends what the page has left running.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // None may be left.
        let _ = killpg(self.0, Signal::SIGKILL);
    }
}

impl Desk {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["home", "work", "bin", "out"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let desk = Self {
            dir,
            ports: free_ports(),
        };
        symlink(RUNNER, desk.path("bin/runner")).unwrap();
        // `cargo run` would build a release binary for minutes, within a build: what it then runs is run.
        let cargo = "#!/bin/bash\n[[ \"$1 $2 $3\" == 'run --release --' ]] || exit 64\n\
                     exec -a target/release/runner runner \"${@:4}\"\n";
        fs::write(desk.path("bin/cargo"), cargo).unwrap();
        fs::set_permissions(desk.path("bin/cargo"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(
            desk.path("home/.gitconfig"),
            "[user]\n\tname = Somebody\n\temail = somebody@example.org\n[init]\n\tdefaultBranch = main\n",
        )
        .unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes the directory that the reader is in a repository with this README.
    pub(super) fn repository(&self, readme: &str) {
        fs::write(self.path("work/README.md"), readme).unwrap();
        let made = self
            .shell()
            .arg("git init --quiet && git add . && git commit --quiet --message Begin")
            .status()
            .unwrap();
        assert!(made.success());
    }

    fn shell(&self) -> Command {
        let path = std::env::var_os("PATH").unwrap();
        let path = format!("{}:{}", self.path("bin").display(), path.to_str().unwrap());
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .current_dir(self.path("work"))
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.path("home"))
            .stdin(Stdio::null());
        shell
    }

    /// Runs blocks of commands one after the other, in one shell that ends at the first that fails.
    pub(super) fn run(&self, blocks: &[&str]) -> Vec<Printed> {
        let mut script = String::from("set -e\n");
        for (index, block) in blocks.iter().enumerate() {
            let (out, code) = (self.out(index), self.code(index));
            let (out, code) = (out.display(), code.display());
            // The trap has the code of a command that fails, where the shell ends.
            writeln!(script, "trap 'echo $? > {code}' EXIT\nexec > {out} 2>&1").unwrap();
            writeln!(script, "{}\necho 0 > {code}", self.here(block)).unwrap();
        }
        script.push_str("trap - EXIT\n");
        let mut child = self.shell().arg(&script).process_group(0).spawn().unwrap();
        let _group = Group(Pid::from_raw(i32::try_from(child.id()).unwrap()));
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(
                begun.elapsed() < NEVER * 3,
                "it never ends:\n{}",
                self.said(blocks.len())
            );
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        (0..blocks.len())
            .map(|index| Printed {
                code: fs::read_to_string(self.code(index))
                    .ok()
                    .and_then(|code| code.trim().parse().ok()),
                text: fs::read_to_string(self.out(index)).unwrap_or_default(),
            })
            .collect()
    }

    fn out(&self, index: usize) -> PathBuf {
        self.path(&format!("out/{index}"))
    }

    fn code(&self, index: usize) -> PathBuf {
        self.path(&format!("out/{index}.code"))
    }

    fn said(&self, blocks: usize) -> String {
        (0..blocks)
            .filter_map(|index| fs::read_to_string(self.out(index)).ok())
            .collect()
    }

    /// The page's ports as those of this desk.
    fn here(&self, text: &str) -> String {
        let pairs = PORTS.iter().zip(self.ports);
        pairs.fold(text.to_owned(), |text, (page, here)| {
            text.replace(&format!(":{page}"), &format!(":{here}"))
        })
    }

    /// What was printed as a page shows it: with `~`, and the page's ports.
    pub(super) fn for_people(&self, text: &str) -> String {
        let text = text
            .replace(self.path("home").to_str().unwrap(), "~")
            .replace(self.path("work").to_str().unwrap(), "~/src");
        let pairs = PORTS.iter().zip(self.ports);
        pairs.fold(text, |text, (page, here)| {
            text.replace(&format!(":{here}"), &format!(":{page}"))
        })
    }
}

/// Ports that nobody has, held together so that they differ.
fn free_ports() -> [u16; 2] {
    let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}
