//! System calls that an agent has no business with, tried in the sandbox and without it.

use runner::sandbox::Ports;

use super::attacker::{Attacker, DONE, ENOSYS, EPERM};

/// Refused by the filter. Without it, no kernel that we know answers EPERM to root: it does it, or does not have it, or
/// does not like the arguments.
const REFUSED: [&str; 48] = [
    "mptcp=1",
    "raw",
    "raw6",
    "ping",
    "sctp",
    "smc",
    "packet",
    "vsock",
    "alg",
    "bluetooth",
    "netlink-audit",
    "io-uring",
    "io-uring-enter",
    "io-uring-register",
    "trace",
    "memory-read",
    "memory-write",
    "takes-descriptor",
    "advises",
    "compares",
    "new-user",
    "new-network",
    "new-mounts",
    "joins",
    "clone-user",
    "key-add",
    "key-request",
    "key-control",
    "perf",
    "page-faults",
    "by-handle",
    "personality-set",
    "bpf",
    "module",
    "module-file",
    "module-gone",
    "kexec",
    "kexec-file",
    "mount",
    "unmount",
    "pivot",
    "mount-move",
    "mount-attributes",
    "tree",
    "tree-attributes",
    "file-system",
    "file-system-set",
    "file-system-mount",
];
/// Of these, what any kernel does for any user who is not kept from it.
const ANYBODYS: [&str; 6] = [
    "trace",
    "memory-read",
    "memory-write",
    "takes-descriptor",
    "compares",
    "personality-set",
];

#[tokio::test]
async fn what_no_agent_has_to_ask_of_the_kernel_is_refused() {
    let attacker = Attacker::new();
    let inside = attacker.tries_in_the_sandbox(&REFUSED, Ports::Any).await;
    assert_eq!(inside.len(), REFUSED.len());
    for (act, answer) in &inside {
        assert_eq!(answer, EPERM, "{act}");
    }

    let outside = attacker.tries_without(&REFUSED).await;
    for act in ANYBODYS {
        assert_eq!(outside[act], DONE, "{act}");
    }
    if nix::unistd::geteuid().is_root() {
        for (act, answer) in &outside {
            assert_ne!(
                answer, EPERM,
                "{act} is refused without the sandbox too: this shows nothing here"
            );
        }
    }
}

#[tokio::test]
async fn what_programs_live_on_works() {
    let lives_on = [
        "threads",
        "clone-plain",
        "separate",
        "pair",
        "netlink-route",
        "personality-asked",
        "limit-own",
        "listen",
    ];
    let attacker = Attacker::new();
    let inside = attacker.tries_in_the_sandbox(&lives_on, Ports::Any).await;
    assert_eq!(inside, attacker.tries_without(&lives_on).await);
    assert!(inside.values().all(|answer| answer == DONE), "{inside:?}");
}

#[tokio::test]
async fn no_other_entry_to_the_kernel_is_a_way_around_the_filter() {
    let attacker = Attacker::new();
    let inside = attacker.tries_in_the_sandbox(&["clone3-user"], Ports::Any).await;
    // Its flags cannot be seen, so it is not there, and what needs it takes `clone`.
    assert_eq!(inside["clone3-user"], ENOSYS);
    if cfg!(target_arch = "x86_64") {
        let acts = ["x32", "i386"];
        let inside = attacker.tries_in_the_sandbox(&acts, Ports::Any).await;
        assert_eq!(inside["x32"], ENOSYS);
        assert_eq!(inside["i386"], format!("signal {}", nix::libc::SIGSYS));
        // Kernels can be built without the old entry; then its instruction is a fault.
        let outside = attacker.tries_without(&acts).await;
        assert_ne!(outside["i386"], inside["i386"], "{outside:?}");
    }
}
