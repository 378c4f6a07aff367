#![allow(clippy::cast_sign_loss, clippy::cast_possible_wrap)] // numbers of calls and their constants, none below 0

use seccompiler::sock_filter;

use super::*;

const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;
#[cfg(target_arch = "x86_64")]
const OWN: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const OWN: u32 = 0xc000_00b7;

/// What the kernel's interpreter answers, for the instructions that filters are made of.
fn answer(program: &[sock_filter], arch: u32, call: u64, arguments: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend_from_slice(&(call as u32).to_le_bytes());
    data.extend_from_slice(&arch.to_le_bytes());
    data.extend_from_slice(&[0; 8]);
    for argument in arguments {
        data.extend_from_slice(&argument.to_le_bytes());
    }
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let step = &program[at];
        at += 1;
        let jump = |taken: bool| usize::from(if taken { step.jt } else { step.jf });
        match step.code {
            0x20 => {
                let from = step.k as usize;
                accumulator = u32::from_le_bytes(data[from..from + 4].try_into().unwrap());
            }
            0x54 => accumulator &= step.k,
            0x05 => at += step.k as usize,
            0x15 => at += jump(accumulator == step.k),
            0x25 => at += jump(accumulator > step.k),
            0x35 => at += jump(accumulator >= step.k),
            0x06 => return step.k,
            other => panic!("an instruction {other:#x}"),
        }
    }
}

fn asked(call: c_long, arguments: [u64; 6]) -> u32 {
    answer(&allowlist().unwrap(), OWN, call as u64, arguments)
}

#[test]
fn what_leads_out_is_refused() {
    for call in [
        libc::SYS_socket,
        libc::SYS_socketpair,
        libc::SYS_connect,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        libc::SYS_bind,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_kill,
        libc::SYS_tkill,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_process_madvise,
        libc::SYS_pidfd_open,
        libc::SYS_pidfd_getfd,
        libc::SYS_pidfd_send_signal,
        libc::SYS_kcmp,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_io_setup,
        libc::SYS_io_submit,
        libc::SYS_name_to_handle_at,
        libc::SYS_open_by_handle_at,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_seccomp,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_chroot,
        libc::SYS_pivot_root,
        libc::SYS_chdir,
        libc::SYS_fchdir,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_memfd_create,
        libc::SYS_flock,
        libc::SYS_setuid,
        libc::SYS_setresuid,
        libc::SYS_capset,
        libc::SYS_setpgid,
        libc::SYS_setsid,
        libc::SYS_shmat,
        libc::SYS_init_module,
        libc::SYS_truncate,
    ] {
        assert_eq!(asked(call, [0; 6]), ERRNO | EPERM as u32, "call {call}");
    }
}

#[test]
fn each_call_that_is_allowed_is_in_the_list() {
    let program = allowlist().unwrap();
    let listed = [RUNNING, FILES, OLDER, &[CLONE3]].concat();
    for call in 0..1024 {
        let is_allowed = answer(&program, OWN, call, [0; 6]) == ALLOW;
        let argued = [libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_prlimit64, libc::SYS_fcntl].map(|call| call as u64);
        // All arguments 0: no memory to execute, own limits, F_DUPFD is in no list.
        let expected = listed.contains(&(call as c_long)) || argued[..3].contains(&call);
        assert_eq!(is_allowed, expected, "call {call}");
    }
}

#[test]
fn arguments_narrow_what_is_allowed() {
    let first = |value: u64| [value, 0, 0, 0, 0, 0];
    let second = |value: u64| [0, value, 0, 0, 0, 0];
    let third = |value: u64| [0, 0, value, 0, 0, 0];
    for (call, allowed, refused) in [
        (libc::SYS_clone, first(libc::CLONE_THREAD as u64 | libc::CLONE_VM as u64), first(libc::SIGCHLD as u64)),
        (libc::SYS_mmap, third(libc::PROT_READ as u64), third((libc::PROT_READ | libc::PROT_EXEC) as u64)),
        (libc::SYS_mprotect, third(libc::PROT_WRITE as u64), third(libc::PROT_EXEC as u64)),
        (libc::SYS_prlimit64, first(0), first(1)),
        (libc::SYS_prlimit64, first(0), third(1 << 32)),
        (libc::SYS_prctl, first(libc::PR_SET_NAME as u64), first(libc::PR_SET_DUMPABLE as u64)),
        (libc::SYS_prctl, first(libc::PR_SET_NAME as u64), first(libc::PR_SET_PDEATHSIG as u64)),
        (libc::SYS_tgkill, first(std::process::id().into()), first(1)),
        (libc::SYS_fcntl, second(libc::F_DUPFD_CLOEXEC as u64), second(libc::F_SETLK as u64)),
        (libc::SYS_fcntl, second(libc::F_GETFL as u64), second(libc::F_OFD_SETLK as u64)),
        (libc::SYS_fcntl, second(libc::F_SETFL as u64), second(libc::F_SETOWN as u64)),
        (libc::SYS_ioctl, second(libc::FIOCLEX), second(libc::TIOCSTI)),
    ] {
        assert_eq!(asked(call, allowed), ALLOW, "call {call}");
        assert_eq!(asked(call, refused), ERRNO | EPERM as u32, "call {call}");
    }
}

#[test]
fn other_entries_to_the_kernel_are_closed() {
    let program = allowlist().unwrap();
    let write = libc::SYS_write as u64;
    assert_eq!(answer(&program, OWN, write, [0; 6]), ALLOW);
    for arch in [0x4000_0003, 0x4000_0028, 0xc000_00b7 ^ 0xc000_003e ^ OWN] {
        assert_eq!(answer(&program, arch, write, [0; 6]), KILL);
    }
    for call in [0, 1, 2, 512, 520] {
        assert_eq!(answer(&program, OWN, 0x4000_0000 + call, [0; 6]), ERRNO | EPERM as u32);
        // x32
    }
}

#[test]
fn clone3_is_unknown() {
    let program = no_clone3().unwrap();
    assert_eq!(answer(&program, OWN, CLONE3 as u64, [0; 6]), ERRNO | libc::ENOSYS as u32);
    assert_eq!(answer(&program, OWN, libc::SYS_socket as u64, [0; 6]), ALLOW);
}
