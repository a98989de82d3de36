//! A terminal of the container's own: size, job control, what happens at the end of input.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{OpenptyResult, Winsize, openpty};

use crate::fixture::{Host, text};
use crate::for_each_user;
use support::process::PATIENCE;

/// A user at a terminal.
struct Seat {
    screen: File,
    seen: String,
    child: Child,
}

impl Seat {
    fn new(host: &Host, args: &[&str]) -> Seat {
        let size = Winsize { ws_row: 33, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None).expect("a terminal");
        for end in [&master, &slave] {
            // Else the runner would inherit them, and never see this end closed.
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("close the terminal on exec");
        }
        let stream = || Stdio::from(slave.try_clone().expect("the terminal again"));
        let mut command = host.command();
        command.args(args).stdin(stream()).stdout(stream()).stderr(stream());
        let child = command.spawn().expect("start the runner");
        Seat { screen: File::from(master), seen: String::new(), child }
    }

    fn type_in(&mut self, keys: &str) {
        self.screen.write_all(keys.as_bytes()).expect("type");
    }

    /// Reads until `wanted` has appeared after what was seen before.
    #[track_caller]
    fn wait_for(&mut self, wanted: &str) {
        let mut buf = [0u8; 1024];
        while !self.seen.contains(wanted) {
            let mut fds = [PollFd::new(self.screen.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut fds, PollTimeout::try_from(PATIENCE).unwrap());
            assert!(ready.is_ok_and(|n| n > 0), "waiting for {wanted:?} after {:?}", self.seen);
            match self.screen.read(&mut buf) {
                Ok(n) if n > 0 => self.seen.push_str(&text(&buf[..n])),
                other => panic!("waiting for {wanted:?}: {other:?} after {:?}", self.seen),
            }
        }
        let end = self.seen.find(wanted).unwrap() + wanted.len();
        self.seen.drain(..end);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // Where the test has failed the runner still waits for keys.
        if std::thread::panicking() {
            self.child.kill().expect("kill the runner");
            self.child.wait().expect("wait for the runner");
        }
    }
}

for_each_user! {
    a_shell_has_a_terminal_with_job_control: |host| {
        let mut seat = Seat::new(host, &["-it", "-e", "PS1=ready> ", "--", "bash", "--norc", "-i"]);
        seat.wait_for("ready> ");
        // What is typed is echoed: the answers have to differ from the questions.
        seat.type_in("echo size: $(stty size) on $(tty)\r");
        seat.wait_for("size: 33 101 on /dev/pts/0");
        seat.wait_for("ready> ");
        // Keys reach the program once it runs in the foreground, before that the shell; so it says
        // when it does. It must not fork meanwhile: a child stopped before its exec holds up a parent
        // that waits for it in vfork, as dash does.
        let program = "trap 'echo conti\"\"nued' CONT; echo sta\"\"rted; while :; do read line; done";
        seat.type_in(&format!("sh -c \"{}\"\r", program.replace('"', "\\\"")));
        seat.wait_for("started");
        seat.type_in("\x1a");
        seat.wait_for("Stopped");
        seat.wait_for("ready> ");
        seat.type_in("fg\r");
        seat.wait_for("continued");
        seat.type_in("\x03");
        seat.wait_for("ready> ");
        seat.type_in("echo code $?\r");
        seat.wait_for("code 130");
        seat.type_in("exit 9\r");
        assert_eq!(seat.child.wait().unwrap().code(), Some(9));
    };

    the_terminal_can_be_opened_by_its_name: |host| {
        let out = host.ok(["-t", "--", "sh", "-c", "tty; test -c /dev/console && echo ok > $(tty)"]);
        assert_eq!(out, "/dev/pts/0\r\nok\r\n");
    };

    the_end_of_input_ends_a_shell: |host| {
        let mut command = host.command();
        let out = support::process::feed(command.args(["-it", "--", "sh"]), b"echo $((6*7))\n");
        assert!(out.status.success(), "{}", text(&out.stderr));
        assert!(text(&out.stdout).contains("42\r"), "{}", text(&out.stdout));
    };
}
