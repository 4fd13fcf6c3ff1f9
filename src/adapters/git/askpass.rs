//! Answers git's question for a credential: the runner's own binary, called by git as `GIT_ASKPASS`.

use std::fs::OpenOptions;
use std::io::{Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use nix::fcntl::OFlag;
use thiserror::Error;
use url::Url;

/// Names the FIFO. A process that has it in its environment is to call [`main`] and nothing else.
pub const FIFO: &str = "RUNNER_ASKPASS_FIFO";
/// Names the one address whose questions are answered.
pub const ORIGIN: &str = "RUNNER_ASKPASS_ORIGIN";
/// The user that goes with a token. GitHub takes this one for every kind.
pub const USER: &str = "x-access-token";

/// Why a question was not answered.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AskpassError {
    /// Not a question for a user or a password.
    #[error("the question is neither for a user nor for a password")]
    NotUnderstood,
    /// Asked on behalf of another address than the repository's.
    #[error("the question is for another address than the repository's")]
    OtherHost,
    /// The environment does not say where to read.
    #[error("{FIFO} or {ORIGIN} is not set")]
    NotCalledByRunner,
    /// The FIFO gave no whole line.
    #[error("the token could not be read")]
    NoToken,
}

/// Prints the answer to `prompt` (the one argument of git) on standard output.
pub fn main(prompt: &str) -> ExitCode {
    let answer = || -> Result<secrecy::zeroize::Zeroizing<Vec<u8>>, AskpassError> {
        let fifo = std::env::var_os(FIFO).ok_or(AskpassError::NotCalledByRunner)?;
        let origin = std::env::var(ORIGIN).map_err(|_| AskpassError::NotCalledByRunner)?;
        match asked_for(prompt, &origin)? {
            Asked::User => Ok(USER.as_bytes().to_vec().into()),
            Asked::Password => token(Path::new(&fifo)).map(Into::into),
        }
    };
    let printed = answer().map_err(|error| error.to_string()).and_then(|mut line| {
        line.push(b'\n');
        let mut out = std::io::stdout().lock();
        out.write_all(&line)
            .and_then(|()| out.flush())
            .map_err(|error| error.to_string())
    });
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // Nobody is left to tell where standard error is gone.
            let _ = writeln!(std::io::stderr(), "error: failed to answer git: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The next answer. All of them were written before git was started, so nothing is waited for: not for more where they are used up,
/// and not for a runner that is dead. It left the FIFO, which nobody will ever open again, and git would wait with us.
fn token(fifo: &Path) -> Result<Vec<u8>, AskpassError> {
    let fifo = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(fifo)
        .map_err(|_| AskpassError::NoToken)?;
    read_line(fifo)
}

/// What git asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    User,
    Password,
}

/// Reads `Username for 'https://host': ` and `Password for 'https://user@host': `.
fn asked_for(prompt: &str, origin: &str) -> Result<Asked, AskpassError> {
    let (asked, rest) = if let Some(rest) = prompt.strip_prefix("Username for '") {
        (Asked::User, rest)
    } else if let Some(rest) = prompt.strip_prefix("Password for '") {
        (Asked::Password, rest)
    } else {
        return Err(AskpassError::NotUnderstood);
    };
    let address = rest
        .trim_end()
        .strip_suffix("':")
        .and_then(|address| Url::parse(address).ok())
        .ok_or(AskpassError::NotUnderstood)?;
    let expected = Url::parse(origin).map_err(|_| AskpassError::NotCalledByRunner)?;
    if address.origin().is_tuple() && address.origin() == expected.origin() {
        Ok(asked)
    } else {
        Err(AskpassError::OtherHost)
    }
}

/// One line, a byte at a time: what follows it is for the next question.
fn read_line(mut source: impl Read) -> Result<Vec<u8>, AskpassError> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        match source.read(&mut byte) {
            Ok(1) if byte == *b"\n" => return Ok(line),
            Ok(1) if line.len() < 64 * 1024 => line.extend(byte),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => return Err(AskpassError::NoToken),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn only_the_repositorys_own_host_is_answered() {
        let origin = "https://h.example/o/r";
        assert_eq!(asked_for("Username for 'https://h.example': ", origin), Ok(Asked::User));
        assert_eq!(
            asked_for("Password for 'https://x-access-token@h.example': ", origin),
            Ok(Asked::Password)
        );
        for other in [
            "Password for 'https://evil.example': ",
            "Password for 'http://h.example': ",
            "Password for 'https://h.example:444': ",
            "Password for 'https://h.example@evil.example': ",
        ] {
            assert_eq!(asked_for(other, origin), Err(AskpassError::OtherHost), "{other}");
        }
        for odd in [
            "",
            "Enter passphrase for key 'x': ",
            "Password for ''",
            "Password for 'h': ",
        ] {
            assert_eq!(asked_for(odd, origin), Err(AskpassError::NotUnderstood), "{odd}");
        }
    }

    #[test]
    fn each_question_takes_one_line() {
        let mut source: &[u8] = b"one\ntwo\n";
        assert_eq!(read_line(&mut source), Ok(b"one".to_vec()));
        assert_eq!(source, b"two\n");
        assert_eq!(read_line(&b"cut"[..]), Err(AskpassError::NoToken));
    }

    #[test]
    fn a_dead_runner_and_one_without_answers_left_are_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("token");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        let answer = || {
            let (told, hears) = mpsc::channel();
            let fifo = fifo.clone();
            std::thread::spawn(move || told.send(token(&fifo)));
            hears.recv_timeout(Duration::from_secs(30)).expect("it does not wait")
        };
        assert_eq!(answer(), Err(AskpassError::NoToken), "nobody has it open");
        let mut runner = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        runner.write_all(b"secret\n").unwrap();
        assert_eq!(answer(), Ok(b"secret".to_vec()));
        assert_eq!(answer(), Err(AskpassError::NoToken), "used up");
    }
}
