//! The system calls that the agent may not make: those that get around Landlock's rules, and those that reach into other
//! processes or deep into the kernel and are in no agent's work. Everything else is allowed.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use nix::errno::Errno;
use nix::libc;
use rustix::net::{AddressFamily, SocketType, socket};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter, sock_filter,
};
use thiserror::Error;

/// Refused whatever their arguments.
const REFUSED: [libc::c_long; 33] = [
    // It makes sockets, connects and sends out of this filter's sight.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Into other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    // The keys of a user are those of the runner's user.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Much of the kernel that is attacked and that no build and no test needs.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    // Another view of the file system, or a way into it beside its paths.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_open_tree,
    OPEN_TREE_ATTR,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_by_handle_at,
    libc::SYS_setns,
];

/// Linux 6.15; the same number everywhere.
const OPEN_TREE_ATTR: libc::c_long = 467;
/// From here on, numbers on `x86_64` are those of the x32 ABI; elsewhere there are none.
const X32_NUMBERS: u32 = 0x4000_0000;
/// `SOCK_TYPE_MASK` of the kernel: above it are flags.
const SOCKET_TYPE: u64 = 0xf;
/// What `personality` is asked with by those who only want to know.
const PERSONALITY_QUESTION: u64 = 0xffff_ffff;

/// The limit that carries the mark.
const MARK: libc::c_int = libc::RLIMIT_RTTIME.cast_signed();

const DOMAIN: u8 = 0;
const TYPE: u8 = 1;
const PROTOCOL: u8 = 2;

/// The filter could not be put on.
#[derive(Debug, Error)]
pub(super) enum FilterError {
    /// It is not to be had for this machine.
    #[error("make a filter of system calls for {ARCH}: {0}")]
    Compile(#[from] BackendError),
    /// The kernel did not take it.
    #[error("put the filter of system calls on: {0}")]
    Install(#[from] seccompiler::Error),
}

/// Puts the filter on this thread, for good, and on whatever it becomes and starts.
pub(super) fn refuse() -> Result<(), FilterError> {
    Ok(apply_filter(&program()?)?)
}

/// Whether it is on: then a domain that no kernel knows is not unknown, but refused.
pub(super) fn is_in_force() -> bool {
    let nobodys = AddressFamily::from_raw(255);
    socket(nobodys, SocketType::STREAM, None).err() == Some(rustix::io::Errno::PERM)
}

fn program() -> Result<BpfProgram, BackendError> {
    let refused = SeccompAction::Errno(Errno::EPERM as u32);
    // It begins with a look at the architecture: a call by another one's entry (i386 on x86_64) kills the process.
    let filter = SeccompFilter::new(rules()?, SeccompAction::Allow, refused, TargetArch::try_from(ARCH)?)?;
    let mut program = not_implemented();
    program.extend(BpfProgram::try_from(filter)?);
    Ok(program)
}

/// Goes before the rest. What answers that it is not there makes programs take another way: glibc falls back from
/// `clone3`, whose flags are in memory that a filter cannot read, to `clone`. That x32 is not there is the truth almost
/// everywhere.
fn not_implemented() -> BpfProgram {
    // <linux/bpf_common.h>; the offset is that of `nr` in `struct seccomp_data`.
    let (load_word, jump_at_least, jump_equal, answer) = (0x20, 0x35, 0x15, 0x06);
    let instruction = |code, k, jt, jf| sock_filter { code, jt, jf, k };
    let not_there = u32::from(SeccompAction::Errno(Errno::ENOSYS as u32));
    // The same number everywhere.
    let clone3 = 435;
    vec![
        instruction(load_word, 0, 0, 0),
        instruction(jump_at_least, X32_NUMBERS, 1, 0),
        instruction(jump_equal, clone3, 0, 1),
        instruction(answer, not_there, 0, 0),
    ]
}

type Rules = Vec<SeccompRule>;

fn rules() -> Result<BTreeMap<i64, Rules>, BackendError> {
    let mut rules: BTreeMap<i64, Rules> = REFUSED.into_iter().map(|call| (call, Vec::new())).collect();
    rules.insert(libc::SYS_socket, sockets()?);
    rules.insert(libc::SYS_socketpair, vec![all([is_not(DOMAIN, libc::AF_UNIX)])?]);
    // It connects, and Landlock does not look (measured on 6.18).
    let fast_open = libc::MSG_FASTOPEN;
    rules.insert(libc::SYS_sendto, vec![all([has(3, fast_open)])?]);
    rules.insert(libc::SYS_sendmsg, vec![all([has(2, fast_open)])?]);
    rules.insert(libc::SYS_sendmmsg, vec![all([has(3, fast_open)])?]);
    rules.insert(libc::SYS_clone, namespaces(&NAMESPACES)?);
    // To `clone`, this bit is a part of the signal's number.
    let with_time = [&NAMESPACES[..], &[libc::CLONE_NEWTIME]].concat();
    rules.insert(libc::SYS_unshare, namespaces(&with_time)?);
    let changes_personality = [is_not(0, 0), compare(0, SeccompCmpOp::Ne, PERSONALITY_QUESTION)];
    rules.insert(libc::SYS_personality, vec![all(changes_personality)?]);
    // Landlock lets a process set the limits of any other of its user: one of processor time kills it (measured on 6.18).
    let sets = || SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0);
    let others = all([is_not(0, 0), sets()])?;
    // In this one is the mark by which the processes of a killed supervisor are found: `process::mark`.
    rules.insert(libc::SYS_prlimit64, vec![others, all([is(1, MARK), sets()])?]);
    rules.insert(libc::SYS_setrlimit, vec![all([is(0, MARK)])?]);
    Ok(rules)
}

const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

fn namespaces(flags: &[libc::c_int]) -> Result<Rules, BackendError> {
    flags.iter().map(|flag| all([has(0, *flag)])).collect()
}

/// Unix sockets, TCP and UDP are allowed, and the question for the network's interfaces, which getaddrinfo and node ask.
/// Landlock's rules for TCP know nothing of MPTCP and SMC, which are protocols of the same sockets.
fn sockets() -> Result<Rules, BackendError> {
    let domains = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    let mut rules = vec![
        all(domains.map(|domain| is_not(DOMAIN, domain)))?,
        all([is(DOMAIN, libc::AF_NETLINK), is_not(PROTOCOL, libc::NETLINK_ROUTE)])?,
    ];
    // Of the domains that are left, these are the internet's.
    let internet = || [is_not(DOMAIN, libc::AF_UNIX), is_not(DOMAIN, libc::AF_NETLINK)];
    let protocols = [libc::IPPROTO_IP, libc::IPPROTO_TCP, libc::IPPROTO_UDP];
    let others = protocols.map(|protocol| is_not(PROTOCOL, protocol));
    rules.push(all(internet().into_iter().chain(others))?);
    for kind in 0..=SOCKET_TYPE {
        if ![libc::SOCK_STREAM, libc::SOCK_DGRAM]
            .map(i64::from)
            .contains(&kind.cast_signed())
        {
            let of_it = compare(TYPE, SeccompCmpOp::MaskedEq(SOCKET_TYPE), kind);
            rules.push(all(internet().into_iter().chain([of_it]))?);
        }
    }
    Ok(rules)
}

type Condition = Result<SeccompCondition, BackendError>;

/// What these arguments all have to be for the call to be refused. They are `int`s: the kernel looks at no more than 32 bits.
fn all(conditions: impl IntoIterator<Item = Condition>) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions.into_iter().collect::<Result<_, _>>()?)
}

fn is(argument: u8, value: libc::c_int) -> Condition {
    compare(argument, SeccompCmpOp::Eq, bits(value))
}

fn is_not(argument: u8, value: libc::c_int) -> Condition {
    compare(argument, SeccompCmpOp::Ne, bits(value))
}

fn has(argument: u8, flag: libc::c_int) -> Condition {
    compare(argument, SeccompCmpOp::MaskedEq(bits(flag)), bits(flag))
}

fn compare(argument: u8, operator: SeccompCmpOp, value: u64) -> Condition {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}

fn bits(value: libc::c_int) -> u64 {
    u64::from(value.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use libc::{AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_STREAM};

    use super::*;

    /// `seccomp_data` as the kernel would give it to the filter.
    fn asked(arch: u32, call: u32, arguments: &[u64]) -> u32 {
        let halves = |argument: u64| [argument & u64::from(u32::MAX), argument >> 32];
        let mut words = vec![call, arch, 0, 0];
        let arguments = arguments.iter().copied().chain(std::iter::repeat(0)).take(6);
        words.extend(arguments.flat_map(halves).map(|half| u32::try_from(half).unwrap()));
        let program = program().unwrap();
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at].clone();
            at += 1;
            let jumps = match code {
                0x20 => {
                    accumulator = words[k as usize / 4];
                    continue;
                }
                0x54 => {
                    accumulator &= k;
                    continue;
                }
                0x05 => {
                    at += k as usize;
                    continue;
                }
                0x15 => accumulator == k,
                0x25 => accumulator > k,
                0x35 => accumulator >= k,
                0x06 => return k,
                other => panic!("an instruction that this test does not know: {other:#x}"),
            };
            at += usize::from(if jumps { jt } else { jf });
        }
    }

    const OUR_ARCH: u32 = if cfg!(target_arch = "x86_64") {
        0xc000_003e
    } else {
        0xc000_00b7
    };
    const I386: u32 = 0x4000_0003;
    const ALLOWED: u32 = 0x7fff_0000;
    const KILLED: u32 = 0x8000_0000;

    fn refused(errno: Errno) -> u32 {
        SeccompAction::Errno(errno as u32).into()
    }

    fn ours(call: i64, arguments: &[u64]) -> u32 {
        asked(OUR_ARCH, u32::try_from(call).unwrap(), arguments)
    }

    #[test]
    fn sockets_are_those_of_unix_tcp_udp_and_the_list_of_interfaces() {
        let flags = bits(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
        let socket = |domain, kind: libc::c_int, protocol| {
            let plain = ours(libc::SYS_socket, &[bits(domain), bits(kind), bits(protocol)]);
            let flagged = ours(libc::SYS_socket, &[bits(domain), bits(kind) | flags, bits(protocol)]);
            // The kernel looks at 32 bits of each.
            let high = 0xdead_beef << 32;
            let dirty = ours(
                libc::SYS_socket,
                &[bits(domain) | high, bits(kind) | high, bits(protocol) | high],
            );
            assert_eq!((plain, plain), (flagged, dirty), "{domain} {kind} {protocol}");
            plain
        };
        for (domain, kind, protocol) in [
            (AF_UNIX, SOCK_STREAM, 0),
            (AF_UNIX, SOCK_SEQPACKET, 0),
            (AF_INET, SOCK_STREAM, 0),
            (AF_INET, SOCK_DGRAM, 0),
            (AF_INET6, SOCK_STREAM, libc::IPPROTO_TCP),
            (AF_INET6, SOCK_DGRAM, libc::IPPROTO_UDP),
            (AF_NETLINK, SOCK_RAW, libc::NETLINK_ROUTE),
        ] {
            assert_eq!(socket(domain, kind, protocol), ALLOWED, "{domain} {kind} {protocol}");
        }
        for domain in (0..64).filter(|domain| ![AF_UNIX, AF_INET, AF_INET6, AF_NETLINK].contains(domain)) {
            assert_eq!(socket(domain, SOCK_STREAM, 0), refused(Errno::EPERM), "{domain}");
        }
        for domain in [AF_INET, AF_INET6] {
            for kind in (0..16).filter(|kind| ![SOCK_STREAM, SOCK_DGRAM].contains(kind)) {
                assert_eq!(socket(domain, kind, 0), refused(Errno::EPERM), "{kind}");
            }
            for protocol in [libc::IPPROTO_ICMP, libc::IPPROTO_SCTP, libc::IPPROTO_MPTCP, 256, -1] {
                assert_eq!(
                    socket(domain, SOCK_STREAM, protocol),
                    refused(Errno::EPERM),
                    "{protocol}"
                );
            }
        }
        for protocol in 1..32 {
            assert_eq!(
                socket(AF_NETLINK, SOCK_RAW, protocol),
                refused(Errno::EPERM),
                "{protocol}"
            );
        }
    }

    #[test]
    fn flags_and_processes_are_told_apart() {
        for (call, arguments, allowed) in [
            (libc::SYS_sendto, &[3, 0, 0, bits(libc::MSG_NOSIGNAL)][..], true),
            (
                libc::SYS_sendto,
                &[3, 0, 0, bits(libc::MSG_NOSIGNAL | libc::MSG_FASTOPEN)],
                false,
            ),
            (libc::SYS_sendmsg, &[3, 0, bits(libc::MSG_FASTOPEN)], false),
            (libc::SYS_sendmmsg, &[3, 0, 1, bits(libc::MSG_FASTOPEN)], false),
            (libc::SYS_clone, &[bits(libc::CLONE_VM | libc::CLONE_THREAD)], true),
            (libc::SYS_clone, &[bits(libc::CLONE_NEWNET | libc::SIGCHLD)], false),
            (libc::SYS_unshare, &[bits(libc::CLONE_FS)], true),
            (libc::SYS_unshare, &[bits(libc::CLONE_NEWTIME)], false),
            (libc::SYS_personality, &[0], true),
            (libc::SYS_personality, &[PERSONALITY_QUESTION], true),
            (libc::SYS_personality, &[0x0004_0000], false),
            (libc::SYS_prlimit64, &[0, 7, 1 << 40], true),
            (libc::SYS_prlimit64, &[41, 7, 0], true),
            (libc::SYS_prlimit64, &[41, 7, 1 << 40], false),
            (libc::SYS_prlimit64, &[0, bits(MARK), 0], true),
            (libc::SYS_prlimit64, &[0, bits(MARK), 1 << 40], false),
            (libc::SYS_setrlimit, &[7, 1 << 40], true),
            (libc::SYS_setrlimit, &[bits(MARK), 1 << 40], false),
            (libc::SYS_socketpair, &[bits(AF_UNIX)], true),
            (libc::SYS_socketpair, &[30], false),
            (libc::SYS_execve, &[], true),
        ] {
            let expected = if allowed { ALLOWED } else { refused(Errno::EPERM) };
            assert_eq!(ours(call, arguments), expected, "{call} {arguments:x?}");
        }
        for call in REFUSED {
            assert_eq!(ours(call, &[]), refused(Errno::EPERM), "{call}");
        }
    }

    #[test]
    fn no_other_entry_to_the_kernel_is_a_way_around_it() {
        assert_eq!(ours(435, &[]), refused(Errno::ENOSYS), "clone3");
        let getpid = u32::try_from(libc::SYS_getpid).unwrap();
        assert_eq!(asked(OUR_ARCH, getpid, &[]), ALLOWED);
        assert_eq!(asked(OUR_ARCH, X32_NUMBERS | getpid, &[]), refused(Errno::ENOSYS));
        assert_eq!(asked(OUR_ARCH, u32::MAX, &[]), refused(Errno::ENOSYS));
        assert_eq!(asked(I386, getpid, &[]), KILLED);
    }
}
