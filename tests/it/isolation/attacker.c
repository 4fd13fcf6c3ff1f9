/* What an agent may try on the kernel. In C, since it takes raw system calls, and the linker of every Rust build is a C compiler.
 *
 * Each argument is an act, with what it needs after an equals sign. Each is done in a process of its own, and prints a
 * line: its name and the number of the error, 0 where it was done, or "signal N" where the kernel killed it for trying.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MPTCP 262
/* Since Linux 5.10 and later, the same everywhere; older headers do not have them. */
#define PROCESS_MADVISE 440
#define MOUNT_SETATTR 442
#define OPEN_TREE_ATTR 467

/* The answer of a call as an error's number. */
static int of(long answer) { return answer < 0 ? errno : 0; }

static struct sockaddr_in loopback(const char *port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return to;
}

static int connects(int protocol, const char *port)
{
    struct sockaddr_in to = loopback(port);
    int s = socket(AF_INET, SOCK_STREAM, protocol);
    if (s < 0)
        return errno;
    return of(connect(s, (void *)&to, sizeof to));
}

static int tcp(const char *port) { return connects(0, port); }
static int mptcp(const char *port) { return connects(MPTCP, port); }

/* Data goes with the connection, or after it: either way without a connect. */
static int fast_open(int how, const char *port)
{
    struct sockaddr_in to = loopback(port);
    struct iovec data = {.iov_base = "out", .iov_len = 3};
    struct mmsghdr message = {.msg_hdr = {&to, sizeof to, &data, 1, 0, 0, 0}};
    int s = socket(AF_INET, SOCK_STREAM, 0);
    if (s < 0)
        return errno;
    if (how == SYS_sendto)
        return of(sendto(s, "out", 3, MSG_FASTOPEN, (void *)&to, sizeof to));
    if (how == SYS_sendmsg)
        return of(sendmsg(s, &message.msg_hdr, MSG_FASTOPEN));
    return of(sendmmsg(s, &message, 1, MSG_FASTOPEN));
}

static int fast_open_sendto(const char *port) { return fast_open(SYS_sendto, port); }
static int fast_open_sendmsg(const char *port) { return fast_open(SYS_sendmsg, port); }
static int fast_open_sendmmsg(const char *port) { return fast_open(SYS_sendmmsg, port); }

/* The connection is put off until the first write. */
static int fast_open_connect(const char *port)
{
    struct sockaddr_in to = loopback(port);
    int yes = 1, s = socket(AF_INET, SOCK_STREAM, 0);
    if (s < 0 || setsockopt(s, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &yes, sizeof yes))
        return errno;
    if (connect(s, (void *)&to, sizeof to))
        return errno;
    return of(write(s, "out", 3));
}

static int datagram(const char *port)
{
    struct sockaddr_in to = loopback(port);
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    return s < 0 ? errno : of(sendto(s, "out", 3, 0, (void *)&to, sizeof to));
}

static int listens(const char *unused)
{
    struct sockaddr_in at = loopback("0");
    int s = socket(AF_INET, SOCK_STREAM, 0);
    return s < 0 || bind(s, (void *)&at, sizeof at) ? errno : of(listen(s, 1));
}

static struct sockaddr_un abstract(const char *name, socklen_t *length)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strncpy(to.sun_path + 1, name, sizeof to.sun_path - 2);
    *length = offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name);
    return to;
}

static int abstract_stream(const char *name)
{
    socklen_t length;
    struct sockaddr_un to = abstract(name, &length);
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    return s < 0 ? errno : of(connect(s, (void *)&to, length));
}

static int abstract_datagram(const char *name)
{
    socklen_t length;
    struct sockaddr_un to = abstract(name, &length);
    int s = socket(AF_UNIX, SOCK_DGRAM, 0);
    return s < 0 ? errno : of(sendto(s, "out", 3, 0, (void *)&to, length));
}

static int opens(int domain, int type, int protocol) { return of(socket(domain, type, protocol)); }
static int raw(const char *unused) { return opens(AF_INET, SOCK_RAW, IPPROTO_ICMP); }
static int raw6(const char *unused) { return opens(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6); }
static int ping(const char *unused) { return opens(AF_INET, SOCK_DGRAM, IPPROTO_ICMP); }
static int sctp(const char *unused) { return opens(AF_INET, SOCK_STREAM, IPPROTO_SCTP); }
static int smc(const char *unused) { return opens(43, SOCK_STREAM, 0); }
static int packet(const char *unused) { return opens(AF_PACKET, SOCK_RAW, 0); }
static int vsock(const char *unused) { return opens(AF_VSOCK, SOCK_STREAM, 0); }
static int alg(const char *unused) { return opens(AF_ALG, SOCK_SEQPACKET, 0); }
static int bluetooth(const char *unused) { return opens(AF_BLUETOOTH, SOCK_RAW, 1); }
static int netlink_audit(const char *unused) { return opens(AF_NETLINK, SOCK_RAW, 9); }
static int netlink_route(const char *unused) { return opens(AF_NETLINK, SOCK_RAW, 0); }

static int pair(const char *unused)
{
    int both[2];
    return of(socketpair(AF_UNIX, SOCK_STREAM, 0, both));
}

static int io_uring(const char *unused)
{
    char parameters[120] = {0};
    return of(syscall(SYS_io_uring_setup, 8, parameters));
}

static int io_uring_enter(const char *unused) { return of(syscall(SYS_io_uring_enter, -1, 0, 0, 0, NULL, 0)); }
static int io_uring_register(const char *unused) { return of(syscall(SYS_io_uring_register, -1, 0, NULL, 0)); }

static char victim[] = "secret";
static pid_t child_of_ours;

/* A process beside, which ends with this one. Nothing but the filter keeps the two apart. */
static pid_t sibling(void)
{
    child_of_ours = fork();
    if (child_of_ours == 0)
        for (;;)
            pause();
    return child_of_ours;
}

static int trace(const char *unused) { return of(ptrace(PTRACE_SEIZE, sibling(), NULL, NULL)); }

static int memory(int call)
{
    char got[sizeof victim] = {0};
    struct iovec here = {got, sizeof got}, there = {victim, sizeof victim};
    return of(syscall(call, sibling(), &here, 1, &there, 1, 0));
}

static int memory_read(const char *unused) { return memory(SYS_process_vm_readv); }
static int memory_write(const char *unused) { return memory(SYS_process_vm_writev); }

static int takes_descriptor(const char *unused)
{
    int process = syscall(SYS_pidfd_open, sibling(), 0);
    return process < 0 ? errno : of(syscall(SYS_pidfd_getfd, process, 0, 0));
}

static int advises(const char *unused)
{
    long page = sysconf(_SC_PAGESIZE);
    struct iovec there = {(void *)((size_t)victim & ~(size_t)(page - 1)), page};
    int process = syscall(SYS_pidfd_open, sibling(), 0);
    return process < 0 ? errno : of(syscall(PROCESS_MADVISE, process, &there, 1, 20 /* MADV_COLD */, 0));
}

static int compares(const char *unused) { return of(syscall(SYS_kcmp, getpid(), sibling(), 0, 0, 0)); }

static int separate(const char *unused) { return of(unshare(CLONE_FS)); }
static int new_user(const char *unused) { return of(unshare(CLONE_NEWUSER)); }
static int new_network(const char *unused) { return of(unshare(CLONE_NEWNET)); }
static int new_mounts(const char *unused) { return of(unshare(CLONE_NEWNS)); }
static int joins(const char *unused)
{
    int own = open("/proc/self/ns/uts", O_RDONLY);
    return own < 0 ? errno : of(setns(own, 0));
}

static int clones(unsigned long flags)
{
    long child = syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, 0);
    if (child == 0)
        _exit(0);
    return of(child);
}

static int clone_user(const char *unused) { return clones(CLONE_NEWUSER); }
static int clone_plain(const char *unused) { return clones(0); }

static int clone3_user(const char *unused)
{
    unsigned long long arguments[8] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD};
    long child = syscall(SYS_clone3, arguments, sizeof arguments);
    if (child == 0)
        _exit(0);
    return of(child);
}

static void *nothing(void *counter)
{
    ++*(int *)counter;
    return NULL;
}

/* A thread, a fork and a shell by way of the C library, which would rather use clone3. */
static int threads(const char *unused)
{
    pthread_t thread;
    int ran = 0, error = pthread_create(&thread, NULL, nothing, &ran);
    if (error)
        return error;
    pthread_join(thread, NULL);
    return ran == 1 && system("exit 7") == 7 << 8 ? 0 : ECHILD;
}

static int key_add(const char *unused)
{
    return of(syscall(SYS_add_key, "user", "attack", "x", 1, -2 /* the process's keyring */));
}
static int key_request(const char *unused) { return of(syscall(SYS_request_key, "user", "attack", NULL, 0)); }
static int key_control(const char *unused) { return of(syscall(SYS_keyctl, 0, -3 /* the session's */, 0)); }

static int perf(const char *unused)
{
    /* Software, the processor's clock; only what is in user space. */
    unsigned long long attributes[16] = {1 | 128ULL << 32, 0, 0, 0, 0, 1 << 5};
    return of(syscall(SYS_perf_event_open, attributes, 0, -1, -1, 0));
}

static int page_faults(const char *unused) { return of(syscall(SYS_userfaultfd, 1 /* user mode alone */)); }

static int by_handle(const char *unused)
{
    union {
        struct file_handle handle;
        char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
    } file = {.handle = {.handle_bytes = MAX_HANDLE_SZ}};
    int mount, here = open(".", O_RDONLY);
    if (name_to_handle_at(AT_FDCWD, ".", &file.handle, &mount, 0))
        return errno;
    return of(open_by_handle_at(here, &file.handle, O_RDONLY));
}

static int personality_asked(const char *unused) { return of(personality(0xffffffff)); }
static int personality_set(const char *unused) { return of(personality(ADDR_NO_RANDOMIZE)); }

/* These ask for what is not there: where it is not refused, nothing happens. */
static int bpf(const char *unused) { return of(syscall(SYS_bpf, -1, NULL, 0)); }
static int module(const char *unused) { return of(syscall(SYS_init_module, NULL, 0, NULL)); }
static int module_file(const char *unused) { return of(syscall(SYS_finit_module, -1, "", 0)); }
static int module_gone(const char *unused) { return of(syscall(SYS_delete_module, NULL, 0)); }
static int kexec(const char *unused) { return of(syscall(SYS_kexec_load, 0, 0, NULL, -1)); }
static int kexec_file(const char *unused) { return of(syscall(SYS_kexec_file_load, -1, -1, 0, NULL, -1)); }
static int mount_at(const char *unused) { return of(syscall(SYS_mount, "none", "/not/there", "tmpfs", 0, NULL)); }
static int unmount(const char *unused) { return of(syscall(SYS_umount2, "/not/there", 0)); }
static int pivot(const char *unused) { return of(syscall(SYS_pivot_root, "/not/there", "/not/there")); }
static int mount_move(const char *unused) { return of(syscall(SYS_move_mount, -1, "x", -1, "y", 0)); }
static int mount_attributes(const char *unused) { return of(syscall(MOUNT_SETATTR, -1, "x", -1, NULL, 0)); }
static int tree(const char *unused) { return of(syscall(SYS_open_tree, -1, "x", 0)); }
static int tree_attributes(const char *unused) { return of(syscall(OPEN_TREE_ATTR, -1, "x", 0, NULL, 0)); }
static int file_system(const char *unused) { return of(syscall(SYS_fsopen, "no-such-thing", 0)); }
static int file_system_set(const char *unused) { return of(syscall(SYS_fsconfig, -1, 0, NULL, NULL, 0)); }
static int file_system_mount(const char *unused) { return of(syscall(SYS_fsmount, -1, 0, 0)); }
static int file_system_pick(const char *unused) { return of(syscall(SYS_fspick, -1, "x", 0)); }

/* Nothing is changed: the signal is none, and the limit is the one that there is. */
static int signals(const char *process) { return of(kill(atoi(process), 0)); }
static int signals_thread(const char *process)
{
    return of(syscall(SYS_tgkill, atoi(process), atoi(process), 0));
}
static int signals_by_descriptor(const char *process)
{
    int descriptor = syscall(SYS_pidfd_open, atoi(process), 0);
    return descriptor < 0 ? errno : of(syscall(SYS_pidfd_send_signal, descriptor, 0, NULL, 0));
}
static int limit_seen(const char *process)
{
    struct rlimit now;
    return of(prlimit(atoi(process), RLIMIT_CPU, NULL, &now));
}
static int limit_set(const char *process)
{
    struct rlimit now;
    if (prlimit(atoi(process), RLIMIT_CPU, NULL, &now))
        return errno;
    return of(prlimit(atoi(process), RLIMIT_CPU, &now, NULL));
}
static int limit_own(const char *unused)
{
    struct rlimit now;
    return getrlimit(RLIMIT_NOFILE, &now) ? errno : of(setrlimit(RLIMIT_NOFILE, &now));
}
static int traces(const char *process) { return of(ptrace(PTRACE_SEIZE, atoi(process), NULL, NULL)); }
static int reads(const char *path)
{
    char byte;
    int file = open(path, O_RDONLY);
    return file < 0 ? errno : of(read(file, &byte, 1));
}
static int opens_to_write(const char *path) { return of(open(path, O_RDWR)); }

#if defined(__x86_64__)
static int x32(const char *unused) { return of(syscall(0x40000000 | SYS_getpid)); }

/* getpid by the entry of 32-bit programs. */
static int i386(const char *unused)
{
    long answer;
    __asm__ volatile("int $0x80" : "=a"(answer) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
    return answer < 0 ? (int)-answer : 0;
}
#endif

static const struct {
    const char *name;
    int (*act)(const char *);
} acts[] = {
    {"tcp", tcp}, {"mptcp", mptcp}, {"fast-open-sendto", fast_open_sendto}, {"fast-open-sendmsg", fast_open_sendmsg},
    {"fast-open-sendmmsg", fast_open_sendmmsg}, {"fast-open-connect", fast_open_connect}, {"datagram", datagram},
    {"listen", listens}, {"abstract-stream", abstract_stream}, {"abstract-datagram", abstract_datagram}, {"raw", raw},
    {"raw6", raw6}, {"ping", ping}, {"sctp", sctp}, {"smc", smc}, {"packet", packet}, {"vsock", vsock}, {"alg", alg},
    {"bluetooth", bluetooth}, {"netlink-audit", netlink_audit}, {"netlink-route", netlink_route}, {"pair", pair},
    {"io-uring", io_uring}, {"io-uring-enter", io_uring_enter}, {"io-uring-register", io_uring_register},
    {"trace", trace}, {"memory-read", memory_read}, {"memory-write", memory_write},
    {"takes-descriptor", takes_descriptor}, {"advises", advises}, {"compares", compares}, {"separate", separate},
    {"new-user", new_user}, {"new-network", new_network}, {"new-mounts", new_mounts}, {"joins", joins},
    {"clone-user", clone_user}, {"clone-plain", clone_plain}, {"clone3-user", clone3_user}, {"threads", threads},
    {"key-add", key_add}, {"key-request", key_request}, {"key-control", key_control}, {"perf", perf},
    {"page-faults", page_faults}, {"by-handle", by_handle}, {"personality-asked", personality_asked},
    {"personality-set", personality_set}, {"bpf", bpf}, {"module", module}, {"module-file", module_file},
    {"module-gone", module_gone}, {"kexec", kexec}, {"kexec-file", kexec_file}, {"mount", mount_at},
    {"unmount", unmount}, {"pivot", pivot}, {"mount-move", mount_move}, {"mount-attributes", mount_attributes},
    {"tree", tree}, {"tree-attributes", tree_attributes}, {"file-system", file_system},
    {"file-system-set", file_system_set}, {"file-system-mount", file_system_mount},
    {"file-system-pick", file_system_pick}, {"signal", signals}, {"signal-thread", signals_thread},
    {"signal-by-descriptor", signals_by_descriptor}, {"limit-seen", limit_seen}, {"limit-set", limit_set},
    {"limit-own", limit_own}, {"traces", traces}, {"reads", reads}, {"writes", opens_to_write},
#if defined(__x86_64__)
    {"x32", x32}, {"i386", i386},
#endif
};

static int known(const char *name, size_t length)
{
    for (size_t at = 0; at < sizeof acts / sizeof *acts; at++)
        if (strlen(acts[at].name) == length && strncmp(acts[at].name, name, length) == 0)
            return (int)at;
    return -1;
}

int main(int count, char **names)
{
    for (int at = 1; at < count; at++) {
        const char *value = strchr(names[at], '=');
        int act = known(names[at], value ? (size_t)(value - names[at]) : strlen(names[at]));
        if (act < 0) {
            fprintf(stderr, "%s is no act\n", names[at]);
            return 2;
        }
        pid_t tried = fork();
        if (tried == 0) {
            alarm(20);
            int error = acts[act].act(value ? value + 1 : "");
            if (child_of_ours > 0)
                kill(child_of_ours, SIGKILL);
            _exit(error);
        }
        int status;
        if (tried < 0 || waitpid(tried, &status, 0) < 0)
            return 3;
        if (WIFSIGNALED(status))
            printf("%s signal %d\n", acts[act].name, WTERMSIG(status));
        else
            printf("%s %d\n", acts[act].name, WEXITSTATUS(status));
        fflush(stdout);
    }
    return 0;
}
