//! `runner __sandbox`: restricts itself and becomes the agent. It runs inside, so it says nothing that has to be believed:
//! why it did not become the program goes to a file that the program never has open.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
    path_beneath_rules,
};
use nix::libc;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};

use super::{Confinement, Demand, Ports, Right, Rights};
use super::{capabilities, descriptors, syscalls};
use crate::process::StartFailure;
use crate::process::options::{Argument, Options, OptionsError};

/// The newest Landlock whose every right this code was tried with. Later ones would restrict in ways nobody has seen.
const ABI_TRIED: ABI = ABI::V6;

const USAGE: u8 = 2;
/// As a shell has it for a program that is not there, or cannot be executed.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
const REFUSED: u8 = 125;

enum Fence {
    Confined(Confinement, Demand),
    Unconfined,
}

struct Orders {
    fence: Fence,
    failure: Option<PathBuf>,
    program: OsString,
    arguments: Vec<OsString>,
}

enum Task {
    Check,
    Enter(Orders),
}

pub(crate) fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match parse(arguments) {
        Ok(Task::Check) => check(),
        Ok(Task::Enter(orders)) => enter(&orders),
        Err(error) => {
            eprintln!("runner sandbox: {error}");
            ExitCode::from(USAGE)
        }
    }
}

fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Task, OptionsError> {
    let mut options = Options::new(arguments);
    let mut allowed = Confinement::default();
    let (mut failure, mut demand, mut confined) = (None, Demand::BestEffort, true);
    loop {
        match options.next()? {
            Argument::Option(name) => match name.as_str() {
                "--check" => return Ok(Task::Check),
                "--rw" => allowed.read_write.push(options.value(&name)?.into()),
                "--rx" => allowed.read_execute.push(options.value(&name)?.into()),
                "--ro" => allowed.read_only.push(options.value(&name)?.into()),
                "--ports" => {
                    let ports = options.value(&name)?;
                    let ports = ports.to_str().and_then(|text| Ports::only(text).ok());
                    allowed.ports = ports.ok_or(OptionsError::NotANumber("--ports"))?;
                }
                "--failure" => failure = Some(options.value(&name)?.into()),
                "--require" => demand = Demand::Whole,
                "--unconfined" => confined = false,
                _ => return Err(OptionsError::Unknown(name.into())),
            },
            Argument::Program(program, arguments) => {
                let fence = if confined {
                    Fence::Confined(allowed, demand)
                } else {
                    Fence::Unconfined
                };
                return Ok(Task::Enter(Orders {
                    fence,
                    failure,
                    program,
                    arguments,
                }));
            }
            Argument::End => return Err(OptionsError::NoProgram),
        }
    }
}

fn enter(orders: &Orders) -> ExitCode {
    // Opened before the restriction and closed by the exec.
    let mut failures = match orders.failure.as_deref().map(open_failures).transpose() {
        Ok(file) => file,
        Err(error) => {
            eprintln!("runner sandbox: failed to open the file for a failed start: {error}");
            return ExitCode::from(REFUSED);
        }
    };
    let Err(failure) = become_program(orders);
    if let Some(file) = &mut failures {
        // Nothing can be done about an error here; the exit code and standard error say it as well.
        let _ = serde_json::to_writer(&mut *file, &failure);
        let _ = file.flush();
    }
    eprintln!("runner sandbox: {failure}");
    ExitCode::from(match failure {
        StartFailure::NotFound { .. } => NOT_FOUND,
        StartFailure::NotExecutable { .. } => NOT_EXECUTABLE,
        StartFailure::Sandbox { .. }
        | StartFailure::Path { .. }
        | StartFailure::Descriptors { .. }
        | StartFailure::Preparation { .. } => REFUSED,
    })
}

fn open_failures(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

fn become_program(orders: &Orders) -> Result<Infallible, StartFailure> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: nix::errno::Errno| StartFailure::Preparation {
            what,
            detail: error.to_string(),
        }
    };
    // The supervisor blocks signals for itself, and a mask goes through fork and exec.
    SigSet::empty()
        .thread_set_mask()
        .map_err(failed("take the signal mask off"))?;
    // A supervisor that is killed takes the agent's first process with it.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed("tie itself to the supervisor"))?;
    // No other limit: that on processes counts all of the user's, the runner's among them, and those on files and memory
    // are the container's to set.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(failed("forbid core dumps"))?;
    prctl::set_no_new_privs().map_err(failed("forbid new privileges"))?;
    let leaking = descriptors::inheritable();
    if !leaking.is_empty() {
        return Err(StartFailure::Descriptors { descriptors: leaking });
    }
    if let Fence::Confined(allowed, demand) = &orders.fence {
        confine(allowed, *demand)?;
    }
    let error = Command::new(&orders.program).args(&orders.arguments).exec();
    let (program, detail) = (orders.program.to_string_lossy().into_owned(), error.to_string());
    Err(if error.kind() == ErrorKind::NotFound {
        StartFailure::NotFound { program, detail }
    } else {
        StartFailure::NotExecutable { program, detail }
    })
}

fn confine(allowed: &Confinement, demand: Demand) -> Result<(), StartFailure> {
    match (capabilities::give_up(), demand) {
        (Err(error), Demand::Whole) => {
            return Err(StartFailure::Preparation {
                what: "give up root's capabilities".to_owned(),
                detail: error.to_string(),
            });
        }
        (Ok(()), _) | (Err(_), Demand::BestEffort) => {}
    }
    let mut in_force = rights_of(&restrict(allowed, demand)?);
    // The last of all: what it refuses is not needed any more.
    let filtered = syscalls::refuse();
    in_force.0.extend(filtered.is_ok().then_some(Right::Syscalls));
    let missing = in_force.missing(&allowed.ports.wanted());
    let detail = match filtered {
        Err(error) => format!("failed to {error}"),
        Ok(()) => format!("{missing} cannot be had"),
    };
    match demand {
        Demand::Whole if !missing.is_empty() => Err(StartFailure::Sandbox { in_force, detail }),
        Demand::Whole | Demand::BestEffort => Ok(()),
    }
}

fn restrict(allowed: &Confinement, demand: Demand) -> Result<RestrictionStatus, StartFailure> {
    let level = match demand {
        Demand::Whole => CompatLevel::HardRequirement,
        Demand::BestEffort => CompatLevel::BestEffort,
    };
    let refused = |error: RulesetError| StartFailure::Sandbox {
        in_force: Rights::none(),
        detail: error.to_string(),
    };
    // Creating devices is in nobody's work, and as root would reach the disk below the files.
    let everything: BitFlags<AccessFs> = AccessFs::from_all(ABI_TRIED) & !(AccessFs::MakeChar | AccessFs::MakeBlock);
    let mut rules = ruleset(level, &allowed.ports).map_err(refused)?;
    for path in &allowed.read_write {
        let beneath = PathFd::new(path).map_err(|error| StartFailure::Path {
            path: path.display().to_string(),
            detail: error.to_string(),
        })?;
        let access = if path.is_dir() {
            everything
        } else {
            everything & AccessFs::from_file(ABI_TRIED)
        };
        rules = rules.add_rule(PathBeneath::new(beneath, access)).map_err(refused)?;
    }
    if let Ports::Only(ports) = &allowed.ports {
        let connect = ports.iter().map(|port| Ok(NetPort::new(*port, AccessNet::ConnectTcp)));
        rules = rules.add_rules(connect).map_err(refused)?;
    }
    rules
        .add_rules(path_beneath_rules(
            &allowed.read_execute,
            AccessFs::Execute | AccessFs::ReadFile | AccessFs::ReadDir,
        ))
        .map_err(refused)?
        .add_rules(path_beneath_rules(
            &allowed.read_only,
            AccessFs::ReadFile | AccessFs::ReadDir,
        ))
        .map_err(refused)?
        .restrict_self()
        .map_err(refused)
}

fn ruleset(level: CompatLevel, ports: &Ports) -> Result<RulesetCreated, RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(level)
        .handle_access(AccessFs::from_all(ABI_TRIED))?
        .scope(Scope::from_all(ABI_TRIED))?;
    if let Ports::Only(_) = ports {
        // Listening stays free: tests start servers.
        rules = rules.handle_access(AccessNet::ConnectTcp)?;
    }
    rules.create()
}

fn rights_of(status: &RestrictionStatus) -> Rights {
    let LandlockStatus::Available { effective_abi, .. } = status.landlock else {
        return Rights::none();
    };
    [
        (ABI::V1, Right::Files),
        (ABI::V2, Right::Refer),
        (ABI::V3, Right::Truncate),
        (ABI::V4, Right::Tcp),
        (ABI::V5, Right::Ioctl),
        (ABI::V6, Right::AbstractSockets),
        (ABI::V6, Right::Signals),
    ]
    .into_iter()
    .filter(|(since, _)| effective_abi >= *since)
    .map(|(_, right)| right)
    .collect()
}

/// Tries it on itself: what the kernel says it can do, and that a file and a socket are then refused indeed.
fn check() -> ExitCode {
    let nothing = Confinement {
        ports: Ports::Only(BTreeSet::new()),
        ..Confinement::default()
    };
    let mut rights = match restrict(&nothing, Demand::BestEffort) {
        Ok(status) if is_refused() => rights_of(&status),
        Ok(_) => Rights::none(),
        Err(failure) => {
            eprintln!("runner sandbox: {failure}");
            Rights::none()
        }
    };
    match syscalls::refuse() {
        Ok(()) => rights.0.extend(syscalls::is_in_force().then_some(Right::Syscalls)),
        Err(error) => eprintln!("runner sandbox: failed to {error}"),
    }
    match serde_json::to_string(&rights) {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("runner sandbox: {error}");
            ExitCode::FAILURE
        }
    }
}

fn is_refused() -> bool {
    File::open("/").is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}
