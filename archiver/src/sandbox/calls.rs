//! The system calls that this program needs, found by running it, and nothing else.
//!
//! What is refused gets EPERM, and the process goes on: the call has no effect either way, libraries fall back from what
//! they try first (Rust copies by hand where `copy_file_range` is refused), a step on a newer libc ends with a typed
//! error that names its path instead of a dead process, and the table of tests can try one after the other. Only another
//! architecture's entry (int 0x80 on x86-64) kills. Calls of x32 bear a bit in their number, so none is in the list.
//!
//! Left out with intent: sockets, other processes (fork, exec, kill, ptrace, `process_vm_*`, `pidfd_*`), `io_uring` (its
//! work passes no filter), `open_by_handle_at`, bpf, mounts, name spaces, keys, `memfd_create`, locks (the workspace's
//! lock is an open file description that this process shares: it could unlock it for all), and memory that can be
//! executed.

use std::collections::BTreeMap;

use libc::{c_long, EPERM};
use seccompiler::{
    apply_filter, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

#[cfg(target_arch = "x86_64")]
const ARCH: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: TargetArch = TargetArch::aarch64;

/// Memory, threads, time, chance.
const RUNNING: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_rt_sigaction, // a thread of Rust's: its guard page
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_sysinfo, // glibc's qsort asks how much memory there is
];

/// Files. Which ones is Landlock's affair.
const FILES: &[c_long] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_ppoll,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_fgetxattr,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_flistxattr,
    libc::SYS_fadvise64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_syncfs,
    libc::SYS_sync_file_range,
    libc::SYS_umask,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
];

/// Linux 6.6, the same number everywhere.
const FCHMODAT2: c_long = 452;

/// Older names of calls that are in the list, which glibc still uses where they exist.
#[cfg(target_arch = "x86_64")]
const OLDER: &[c_long] = &[
    libc::SYS_poll,
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_chmod,
    libc::SYS_dup2,
    libc::SYS_time,
];
#[cfg(target_arch = "aarch64")]
const OLDER: &[c_long] = &[];

/// glibc 2.34 makes threads by clone3, whose flags stand in memory, where no filter can read them. ENOSYS sends it to
/// clone.
const CLONE3: c_long = libc::SYS_clone3;

/// Restrict the calling thread, and those that it starts, to these calls. The text says why it cannot be.
pub fn restrict() -> Result<(), String> {
    let install = |program: seccompiler::Result<BpfProgram>| program.and_then(|program| apply_filter(&program));
    // Of two filters the stricter answer counts, and of two error numbers the last installed; a call that the list
    // lacks is one that it refuses, so clone3 has to be in there.
    install(no_clone3()).and_then(|()| install(allowlist())).map_err(|error| error.to_string())
}

fn no_clone3() -> seccompiler::Result<BpfProgram> {
    let rules = BTreeMap::from([(CLONE3, vec![])]);
    let refuse = SeccompAction::Errno(libc::ENOSYS as u32);
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, refuse, ARCH)?.try_into()?)
}

fn allowlist() -> seccompiler::Result<BpfProgram> {
    let mut rules = BTreeMap::new();
    for call in [RUNNING, FILES, OLDER, &[CLONE3]].concat() {
        rules.insert(call, vec![]);
    }
    let only = |argument, operator, value: u64| -> seccompiler::Result<SeccompRule> {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?;
        Ok(SeccompRule::new(vec![condition])?)
    };
    let one_of = |argument, values: &[u64]| -> seccompiler::Result<Vec<SeccompRule>> {
        values.iter().map(|value| only(argument, SeccompCmpOp::Eq, *value)).collect()
    };
    // Threads, no processes.
    let thread = libc::CLONE_THREAD as u64;
    rules.insert(libc::SYS_clone, vec![only(0, SeccompCmpOp::MaskedEq(thread), thread)?]);
    // No memory that can be executed.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![only(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0)?]);
    }
    // Own limits (a new thread's stack), and only to be read.
    let own = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, 0)?;
    let reading = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?;
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![own, reading])?]);
    // The names of threads, and of glibc's pieces of memory.
    rules.insert(libc::SYS_prctl, one_of(0, &[libc::PR_SET_NAME as u64, libc::PR_SET_VMA as u64])?);
    // Signals to itself: how abort ends a process.
    rules.insert(libc::SYS_tgkill, one_of(0, &[u64::from(std::process::id())])?);
    // Descriptors, no locks; nor signals upon input.
    let commands = [
        libc::F_DUPFD_CLOEXEC,
        libc::F_GETFD,
        libc::F_SETFD,
        libc::F_GETFL,
        libc::F_SETFL,
        libc::F_GETPIPE_SZ,
        libc::F_SETPIPE_SZ,
    ];
    rules.insert(libc::SYS_fcntl, one_of(1, &commands.map(|command| command.unsigned_abs().into()))?);
    rules.insert(libc::SYS_ioctl, one_of(1, &[libc::FIOCLEX])?);
    let refuse = SeccompAction::Errno(EPERM as u32);
    Ok(SeccompFilter::new(rules, refuse, SeccompAction::Allow, ARCH)?.try_into()?)
}

#[cfg(test)]
mod tests;
