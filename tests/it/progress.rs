//! What `runner run` and `runner demo` show while they run: in a terminal, and where there is none.

use std::fs::File;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};

use crate::harness::NEVER;
use crate::local_run::Person;

/// A terminal of this test's own, and what it shows.
struct Terminal {
    child: Child,
    screen: Arc<Mutex<vt100::Parser>>,
    reader: std::thread::JoinHandle<()>,
}

impl Terminal {
    /// Standard error is the terminal: what a script wants is on standard output.
    fn of(columns: u16, mut command: Command) -> Self {
        let size = Winsize {
            ws_row: 40,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&size), None).unwrap();
        let child = command
            .env("TERM", "xterm-256color")
            .stdout(Stdio::null())
            .stderr(Stdio::from(pty.slave))
            .spawn()
            .unwrap();
        // The command has its end of it until it is dropped.
        drop(command);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(size.ws_row, columns, 1_000)));
        let shown = Arc::clone(&screen);
        let mut master = File::from(pty.master);
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // An error is the other end, closed.
            while let Ok(length) = master.read(&mut bytes) {
                if length == 0 {
                    break;
                }
                shown.lock().unwrap().process(&bytes[..length]);
            }
        });
        Self { child, screen, reader }
    }

    fn shows(&self) -> String {
        lines_of(self.screen.lock().unwrap().screen())
    }

    /// Waits until the screen is so.
    fn until(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let shown = self.shows();
            if holds(&shown) {
                return shown;
            }
            assert!(begun.elapsed() < NEVER, "never {what}:\n{shown}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it shows in the end.
    fn in_the_end(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        self.reader.join().unwrap();
        let shown = lines_of(self.screen.lock().unwrap().screen());
        (status.code(), shown)
    }
}

/// Each line of a screen by itself: one that was filled to its end is not joined with the next.
fn lines_of(screen: &vt100::Screen) -> String {
    let (_, columns) = screen.size();
    let lines: Vec<String> = screen.rows(0, columns).map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n").trim_end().to_owned()
}

/// What an agent says that means no good, in Claude's stream format.
const SAYS: &str = r#"cat > /dev/null; say() { printf '{"type":"assistant","message":{"id":"%s","content":[{"type":"text","text":"%s"}]}}\n' "$1" "$1"; }; say 'I look around'; say '\u001b[2J\u001b[H\u202egone ghp_0123456789abcdefghijABCDEFGHIJ012345 and a long rest that no terminal has room for'; "#;
/// Until it is let go on.
const WAITS: &str = "until [ -e \"$HOME/go\" ]; do sleep 0.02; done; ";

fn run(person: &Person, agent: &str) -> Command {
    person.repository();
    let mut command = person.command(&["run", "--repo", "repo", "--task", "Make a change", "--task-id", "t-1"]);
    command.args(["--agent", "command", "--agent-command"]);
    command.arg(format!("{agent} echo change >> change.txt"));
    command
}

fn let_go(person: &Person) {
    std::fs::write(person.state("t-1").join("workspace/home/go"), "").unwrap();
}

#[test]
fn on_a_terminal_the_step_the_agents_action_and_what_is_to_come_are_in_place_below_what_is_done() {
    for (columns, settings) in [(100, &[("NO_COLOR", "1")][..]), (100, &[]), (46, &[])] {
        let person = Person::new();
        let mut command = run(&person, &format!("{SAYS}{WAITS}"));
        command.envs(settings.iter().copied());
        let terminal = Terminal::of(columns, command);
        let shown = terminal.until("what the agent says", |shown| shown.contains("gone"));
        let lines: Vec<&str> = shown.trim_end().lines().collect();
        // The line of others' words neither cleared the screen nor moved on it, and has no secret in it.
        assert!(shown.contains("ok  cloned at "), "{columns}: {shown}");
        assert!(!shown.contains("ghp_0123456789"), "{shown}");
        assert!(!shown.contains('\u{202e}'), "{shown}");
        let [now, action, to_come] = lines[lines.len() - 3..] else {
            panic!("{shown}");
        };
        assert!(now.contains("the agent is at work"), "{shown}");
        if columns > 80 {
            // What it said it said in two answers of its model.
            assert!(now.contains("2 of 50 turns · 2 actions"), "{shown}");
        }
        assert!(action.trim_start().starts_with("agent: \\u{1b}[2J"), "{shown}");
        assert!(
            to_come.trim_start().starts_with("then: take-over, push, report"),
            "{shown}"
        );
        assert_eq!(shown.matches("the agent is at work").count(), 1, "in place: {shown}");
        let coloured = terminal.screen.lock().unwrap().screen().contents_formatted();
        let green = b"\x1b[32m";
        assert_eq!(
            coloured.windows(green.len()).any(|part| part == green),
            settings.is_empty(),
            "{columns}: {}",
            String::from_utf8_lossy(&coloured)
        );
        let_go(&person);
        let (code, shown) = terminal.in_the_end();
        assert_eq!(code, Some(0), "{shown}");
        assert!(
            shown.contains("ok  the agent is done") && shown.contains("ok  reported"),
            "{shown}"
        );
        assert!(
            !shown.contains("then: ") && !shown.contains("the agent is at work"),
            "{shown}"
        );
    }
}

#[test]
fn where_there_is_no_terminal_each_step_is_a_plain_line() {
    let person = Person::new();
    let output = run(&person, SAYS).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    for line in [
        "  ok  cloned at ",
        "      agent: I look around\n",
        "  ok  the agent is done",
        "  ok  pushed",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(!said.contains(['\u{1b}', '\r', '\u{202e}']), "{said}");
    assert!(
        said.contains("agent: \\u{1b}[2J\\u{1b}[H\\u{202e}gone ghp_[redacted]"),
        "{said}"
    );
}
